/* Which sources the library was compiled from: COMPILED_SOURCES is given by whoever compiles it (tools/hatch_build.py). */
#include "traffic.h"

#ifndef COMPILED_SOURCES
#define COMPILED_SOURCES ""
#endif

EXPORT const char *traffic_sources(void)
{
    return COMPILED_SOURCES;
}
