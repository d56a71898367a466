/*
 * machine.h - what this machine, or this container, has left.
 */
#ifndef GRADECHO_CORE_MACHINE_H
#define GRADECHO_CORE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* Memory in bytes: what can be had without swapping or killing, and all there
 * is; both within the limits of the control groups (version 2) around this
 * process, where file cache counts as available.
 *
 * \param root  "" ; a test's own /proc and /sys lie below another
 * \return false if the kernel does not tell; both are then UINT64_MAX */
bool ge_machine_memory(const char *root, uint64_t *available, uint64_t *total);

#endif
