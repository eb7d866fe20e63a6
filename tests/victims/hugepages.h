/* Pages of 2 MiB. */
#pragma once
#include <stdio.h>

#define HUGE (2UL << 20)

/* Returns of which size the kernel has made the pages of the area that begins there. */
static int kernel_page_kib(unsigned char *at)
{
	char line[300];
	unsigned long start, end;
	int kib = 0, is_it = 0;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	while (fgets(line, sizeof line, smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_it = start == (unsigned long)at;
		else if (is_it && sscanf(line, "KernelPageSize: %d", &kib) == 1)
			break;
	}
	fclose(smaps);
	return kib;
}
