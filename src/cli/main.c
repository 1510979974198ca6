/* SPDX-License-Identifier: MIT */
#include "membound.h"

int main(void)
{
    printf("membound %s\n", MB_VERSION);
    return 0;
}
