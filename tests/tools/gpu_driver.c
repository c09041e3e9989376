/* A stand-in for NVIDIA's management library, for tests alone: one GPU of a
 * constant power, so that the true energy of any stretch of time is known.
 * WATTLINE_TEST_GPU says which: the watts of a GPU with an energy counter that
 * moves every 20 ms; `jetson`, whose counters are not supported; `unloaded`,
 * without a driver. The functions and return codes are those of NVML's
 * reference (nvml.h). */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SUCCESS 0
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define DRIVER_NOT_LOADED 9

static const char *kind(void)
{
    const char *kind = getenv("WATTLINE_TEST_GPU");
    return kind ? kind : "unloaded";
}

int nvmlInit_v2(void) { return strcmp(kind(), "unloaded") ? SUCCESS : DRIVER_NOT_LOADED; }

int nvmlShutdown(void) { return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned int *count)
{
    *count = 1;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device)
{
    *device = (void *)kind;
    return index == 0 ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int length)
{
    (void)device;
    strncpy(name, "Test GPU", length);
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules)
{
    struct timespec now;
    (void)device;
    if (!strcmp(kind(), "jetson"))
        return NOT_SUPPORTED;
    clock_gettime(CLOCK_MONOTONIC, &now);
    unsigned long long steps = (now.tv_sec * 1000ULL + now.tv_nsec / 1000000) / 20;
    *millijoules = steps * 20 * strtoull(kind(), NULL, 10);
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts)
{
    (void)device;
    if (!strcmp(kind(), "jetson"))
        return NOT_SUPPORTED;
    *milliwatts = 1000 * strtoul(kind(), NULL, 10);
    return SUCCESS;
}
