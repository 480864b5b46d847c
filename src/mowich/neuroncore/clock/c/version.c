/* Which sources the library was compiled from: CLOCK_SOURCES is given by whoever compiles it (tools/hatch_build.py). */
#include "memory.h"

#ifndef CLOCK_SOURCES
#define CLOCK_SOURCES ""
#endif

EXPORT const char *clock_sources(void)
{
    return CLOCK_SOURCES;
}
