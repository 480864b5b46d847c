/* Memory of a fleet, and the way out when it runs out: see traffic.h. */
#include "traffic.h"

#include <stdlib.h>

_Noreturn void leave(Escape *escape, int status)
{
    escape->status = status;
    longjmp(escape->to, 1);
}

void *grown(Escape *escape, void *old, size_t bytes)
{
    void *made = realloc(old, bytes ? bytes : 1);
    if (!made)
        leave(escape, NO_MEMORY);
    return made;
}
