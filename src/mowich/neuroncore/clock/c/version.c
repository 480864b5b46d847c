/* Which sources the library was compiled from: COMPILED_SOURCES is given by whoever compiles it (tools/hatch_build.py). */
#include "memory.h"

#ifndef COMPILED_SOURCES
#define COMPILED_SOURCES ""
#endif

EXPORT const char *clock_sources(void)
{
    return COMPILED_SOURCES;
}
