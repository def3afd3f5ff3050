/* A made-up libnvidia-ml.so.1: GPUs whose energy is the integral of a curve since an origin.

   It reads two text files of the directory FAKE_NVML, tab separated, a line per fact: `host`, once
   at nvmlInit, and `control`, again whenever it has changed. Time is CLOCK_BOOTTIME, so counters go
   on while nobody looks, and whoever reads at one moment reads the same. fake.py writes both. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };
enum { GPUS = 16, POINTS = 64, TENANTS = 4096, INSTANCES = 16, FAULTS = 64 };
enum { FIELD_ENERGY = 83, FIELD_AVERAGE = 185, FIELD_INSTANT = 186, ALL_GPUS = -1, FOR_EVER = -1 };

typedef unsigned long long u64;
typedef struct { int count; double time[POINTS], value[POINTS]; } Curve;
typedef struct { int gpu, instance; char uuid[96]; unsigned gi, ci, slices, sms; } Instance;
typedef struct {
    int index, minor, absent, architecture, counter, average, instant, utilization, gpm, slices;
    char uuid[96], name[96], bus[32];
    unsigned limit_mw;
    double added_mj, origin, frozen_mj;
    int is_frozen, instances;
    Curve watts;
    Instance instance[INSTANCES];
} Gpu;
typedef struct { int gpu, gone, serves; unsigned pid, gi, ci; double begin, end; Curve active; } Tenant;
typedef struct { char call[64]; int gpu, code, count, delay_ms, field; } Fault;
typedef struct { double at; int gpu; unsigned gi; } Sample;
typedef struct { char call[64]; int gpu; double value; } Forced;

static Gpu gpus[GPUS];
static Tenant tenants[TENANTS];
static Fault faults[FAULTS];
static Forced forced[FAULTS];
static int gpu_count, tenant_count, fault_count, forced_count, inits, race;
static double period = 600, step = 0.02;
static char driver[80];
static struct timespec control_time;
static off_t control_size;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double fixed_now, fixed_wall; /* 0: time goes by */

static double now(void) {
    struct timespec t;
    if (fixed_now > 0) return fixed_now;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double value_at(const Curve *curve, double phase) {
    int n = curve->count;
    if (n == 0) return 0;
    for (int i = n; i >= 0; i--) { /* the last knot that is not after the phase */
        double t0 = i ? curve->time[i - 1] : curve->time[n - 1] - period;
        if (i && t0 > phase) continue;
        double v0 = curve->value[i ? i - 1 : n - 1];
        double t1 = i < n ? curve->time[i] : curve->time[0] + period;
        double v1 = curve->value[i < n ? i : 0];
        return t1 > t0 ? v0 + (v1 - v0) * (phase - t0) / (t1 - t0) : v0;
    }
    return 0;
}

static double area_to(const Curve *curve, double phase) {
    double area = 0, before = 0, value = value_at(curve, 0);
    for (int i = 0; i < curve->count && curve->time[i] <= phase; i++) {
        double end = curve->time[i];
        if (end > before) { /* a step has two values at one time; the line runs to the first */
            area += (end - before) * (value + curve->value[i]) / 2;
        }
        before = end;
        value = curve->value[i];
    }
    return area + (phase - before) * (value + value_at(curve, phase)) / 2;
}

static double integral(const Curve *curve, double seconds) {
    double periods = (long long)(seconds / period);
    return periods * area_to(curve, period) + area_to(curve, seconds - periods * period);
}

static double energy_mj(const Gpu *gpu) {
    double t = (long long)(now() / step) * step;
    if (gpu->is_frozen) return gpu->frozen_mj;
    return (integral(&gpu->watts, t) - integral(&gpu->watts, gpu->origin)) * 1000 + gpu->added_mj;
}

static void add_point(Curve *curve, double time, double value) {
    if (curve->count < POINTS) {
        curve->time[curve->count] = time;
        curve->value[curve->count++] = value;
    }
}

static void fact(char *line) {
    char *word[16] = {0};
    int words = 0;
    for (char *part; words < 16 && (part = strsep(&line, "\t\n")) && *part;) word[words++] = part;
    if (!words) return;
#define IS(name, least) (!strcmp(word[0], name) && words > least)
#define GPU_OF(n) (&gpus[atoi(word[n]) % GPUS])
    if (IS("driver", 1)) snprintf(driver, sizeof driver, "%s", word[1]);
    if (IS("time", 2)) period = atof(word[1]), step = atof(word[2]);
    if (IS("gpu", 10) && gpu_count < GPUS) {
        Gpu *gpu = &gpus[gpu_count];
        gpu->index = gpu->minor = gpu_count++;
        snprintf(gpu->uuid, sizeof gpu->uuid, "%s", word[1]);
        snprintf(gpu->name, sizeof gpu->name, "%s", word[2]);
        snprintf(gpu->bus, sizeof gpu->bus, "%s", word[3]);
        gpu->limit_mw = atoi(word[4]), gpu->architecture = atoi(word[5]);
        gpu->counter = atoi(word[6]), gpu->average = atoi(word[7]), gpu->instant = atoi(word[8]);
        gpu->utilization = atoi(word[9]), gpu->gpm = atoi(word[10]);
    }
    if (IS("minor", 2)) GPU_OF(1)->minor = atoi(word[2]); /* negative: the driver does not tell */
    if (IS("watts", 3)) add_point(&GPU_OF(1)->watts, atof(word[2]), atof(word[3]));
    if (IS("slices", 2)) GPU_OF(1)->slices = atoi(word[2]), GPU_OF(1)->instances = 0;
    if (IS("instance", 6)) {
        Gpu *gpu = GPU_OF(1);
        Instance *made = &gpu->instance[gpu->instances++ % INSTANCES];
        made->gpu = gpu->index;
        snprintf(made->uuid, sizeof made->uuid, "%s", word[2]);
        made->gi = atoi(word[3]), made->ci = atoi(word[4]);
        made->slices = atoi(word[5]), made->sms = atoi(word[6]);
    }
    if (IS("tenant", 7) && tenant_count < TENANTS) {
        Tenant *made = &tenants[tenant_count++];
        made->gpu = atoi(word[1]), made->pid = atoi(word[2]), made->serves = atoi(word[7]);
        made->begin = atof(word[3]), made->end = atof(word[4]);
        made->gi = atoi(word[5]), made->ci = atoi(word[6]);
    }
    if (IS("active", 3) && atoi(word[1]) < tenant_count)
        add_point(&tenants[atoi(word[1])].active, atof(word[2]), atof(word[3]));
    if (IS("fault", 6) && fault_count < FAULTS) {
        Fault *made = &faults[fault_count++];
        snprintf(made->call, sizeof made->call, "%s", word[1]);
        made->gpu = atoi(word[2]), made->code = atoi(word[3]), made->count = atoi(word[4]);
        made->delay_ms = atoi(word[5]), made->field = atoi(word[6]);
    }
    if (IS("force", 3) && forced_count < FAULTS) {
        Forced *made = &forced[forced_count++];
        snprintf(made->call, sizeof made->call, "%s", word[1]);
        made->gpu = atoi(word[2]), made->value = atof(word[3]);
    }
    if (IS("absent", 1)) GPU_OF(1)->absent = 1;
    if (IS("origin", 2)) GPU_OF(1)->origin = atof(word[2]);
    if (IS("add", 2)) GPU_OF(1)->added_mj = atof(word[2]);
    if (IS("frozen", 2)) GPU_OF(1)->is_frozen = 1, GPU_OF(1)->frozen_mj = atof(word[2]);
    if (IS("gone", 1))
        for (int i = 0; i < tenant_count; i++) tenants[i].gone |= tenants[i].pid == (unsigned)atoi(word[1]);
    if (IS("now", 2)) fixed_now = atof(word[1]), fixed_wall = atof(word[2]);
    if (IS("race", 1)) race = atoi(word[1]);
}

static void read_facts(const char *name) {
    char path[4096], line[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("FAKE_NVML") ? getenv("FAKE_NVML") : ".", name);
    FILE *file = fopen(path, "r");
    if (!file) return;
    while (fgets(line, sizeof line, file)) fact(line);
    fclose(file);
}

static void refresh(void) {
    char path[4096];
    struct stat status;
    snprintf(path, sizeof path, "%s/control", getenv("FAKE_NVML") ? getenv("FAKE_NVML") : ".");
    if (stat(path, &status) || (status.st_size == control_size &&
        !memcmp(&status.st_mtim, &control_time, sizeof control_time))) return;
    control_size = status.st_size, control_time = status.st_mtim;
    memset(gpus, 0, sizeof gpus), memset(tenants, 0, tenant_count * sizeof *tenants);
    fault_count = forced_count = tenant_count = gpu_count = race = 0;
    fixed_now = 0;
    read_facts("host");
    read_facts("control");
}

/* What a call is to answer before it does anything; it may take its time over that. */
static int enter(const char *call, const Gpu *gpu) {
    int code = OK, delay_ms = 0;
    pthread_mutex_lock(&lock);
    refresh();
    if (!inits && strncmp(call, "nvmlInit", 8)) code = UNINITIALIZED;
    if (gpu && gpu->absent) code = GPU_IS_LOST;
    for (int i = 0; i < fault_count; i++) {
        Fault *fault = &faults[i];
        if (strcmp(fault->call, call) || fault->field || !fault->count ||
            (fault->gpu != ALL_GPUS && (!gpu || gpu->index != fault->gpu))) continue;
        if (fault->count > 0) fault->count--;
        code = fault->code ? fault->code : code;
        delay_ms = fault->delay_ms;
        break;
    }
    pthread_mutex_unlock(&lock);
    for (int waited = 0; delay_ms == FOR_EVER || waited < delay_ms; waited += 10) {
        struct timespec pause = {0, 10000000};
        nanosleep(&pause, NULL);
        if (delay_ms == FOR_EVER && waited % 100 == 0) { /* until the fault is taken away */
            pthread_mutex_lock(&lock);
            refresh();
            int still = 0;
            for (int i = 0; i < fault_count; i++)
                still |= !strcmp(faults[i].call, call) && faults[i].delay_ms == FOR_EVER;
            pthread_mutex_unlock(&lock);
            if (!still) break;
        }
    }
    return code;
}
/* What is read after this is not read anew by another thread before the block ends. */
static void let_go(const int *held) { (void)held; pthread_mutex_unlock(&lock); }
#define HOLD() int held __attribute__((cleanup(let_go), unused)) = pthread_mutex_lock(&lock)
#define ENTER(gpu) int refused = enter(__func__, gpu); if (refused) return refused; HOLD()

/* A value, or what is to be shown in its place. */
static double shown(const char *call, const Gpu *gpu, double value) {
    for (int i = 0; i < forced_count; i++)
        if (!strcmp(forced[i].call, call) && (forced[i].gpu == ALL_GPUS || (gpu && forced[i].gpu == gpu->index)))
            return forced[i].value;
    return value;
}
static double field_shown(unsigned id, const Gpu *gpu, double value) {
    char call[32];
    snprintf(call, sizeof call, "field%u", id);
    return shown(call, gpu, value);
}

static int is_mig(void *handle) {
    return (char *)handle < (char *)gpus || (char *)handle >= (char *)(gpus + GPUS) ||
           ((char *)handle - (char *)gpus) % sizeof(Gpu) != 0;
}
static int here(const Tenant *t) {
    double phase = now() - (long long)(now() / period) * period;
    return !t->gone && t->begin <= phase && phase < t->end;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; ENTER(NULL); inits++; return OK; }
int nvmlInit_v2(void) { ENTER(NULL); inits++; return OK; }
int nvmlShutdown(void) { ENTER(NULL); inits--; return OK; }
const char *nvmlErrorString(int code) { (void)code; return "made up"; }
static int text(char *to, unsigned size, const char *from) { snprintf(to, size, "%s", from); return OK; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { ENTER(NULL); return text(to, size, driver); }
int nvmlSystemGetNVMLVersion(char *to, unsigned size) { ENTER(NULL); return text(to, size, driver); }

int nvmlDeviceGetCount_v2(unsigned *count) {
    ENTER(NULL);
    *count = 0;
    for (int i = 0; i < gpu_count; i++) *count += !gpus[i].absent;
    return *count = shown(__func__, NULL, *count), OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    Gpu *found = NULL;
    {
        ENTER(NULL);
        for (int i = 0; i < gpu_count && !found; i++)
            if (!gpus[i].absent && index-- == 0) found = &gpus[i];
    }
    return *handle = found, found ? enter("handle", found) : INVALID_ARGUMENT;
}
int nvmlDeviceGetUUID(void *handle, char *to, unsigned size) {
    if (is_mig(handle)) {
        HOLD();
        return text(to, size, ((Instance *)handle)->uuid);
    }
    ENTER((Gpu *)handle);
    return text(to, size, ((Gpu *)handle)->uuid);
}
int nvmlDeviceGetName(Gpu *gpu, char *to, unsigned size) { ENTER(gpu); return text(to, size, gpu->name); }
int nvmlDeviceGetArchitecture(Gpu *gpu, unsigned *to) { ENTER(gpu); return *to = gpu->architecture, OK; }
int nvmlDeviceGetIndex(Gpu *gpu, unsigned *to) { ENTER(gpu); return *to = gpu->index, OK; }
int nvmlDeviceGetMinorNumber(Gpu *gpu, unsigned *to) {
    ENTER(gpu);
    return *to = gpu->minor, gpu->minor < 0 ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetPciInfo_v3(Gpu *gpu, char *info) {
    ENTER(gpu);
    memset(info, 0, 68);
    return text(info + 36, 32, gpu->bus);
}
int nvmlDeviceGetEnforcedPowerLimit(Gpu *gpu, unsigned *mw) {
    ENTER(gpu);
    *mw = shown(__func__, gpu, gpu->limit_mw);
    return *mw ? OK : NOT_SUPPORTED;
}
static unsigned power_mw(const Gpu *gpu) {
    double t = now();
    return value_at(&gpu->watts, t - (long long)(t / period) * period) * 1000;
}
int nvmlDeviceGetPowerUsage(Gpu *gpu, unsigned *mw) {
    ENTER(gpu);
    return *mw = shown(__func__, gpu, power_mw(gpu)), gpu->watts.count ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetTotalEnergyConsumption(Gpu *gpu, u64 *mj) {
    ENTER(gpu);
    return *mj = shown(__func__, gpu, energy_mj(gpu)), gpu->counter ? OK : NOT_SUPPORTED;
}
typedef struct { unsigned id, scope; long long time, latency; unsigned type; int code; u64 value; } Field;
int nvmlDeviceGetFieldValues(Gpu *gpu, int count, Field *fields) {
    ENTER(gpu);
    int worked = 0;
    for (Field *f = fields; f < fields + count; f++) {
        f->value = 0, f->code = NOT_SUPPORTED, f->type = 1;
        if (f->scope == 0 && f->id == FIELD_ENERGY && gpu->counter)
            f->value = field_shown(f->id, gpu, energy_mj(gpu)), f->type = 3, f->code = OK;
        if (f->scope == 0 && ((f->id == FIELD_INSTANT && gpu->instant) || (f->id == FIELD_AVERAGE && gpu->average)))
            f->value = field_shown(f->id, gpu, power_mw(gpu)), f->code = OK;
        for (int i = 0; i < fault_count; i++)
            if (!strcmp(faults[i].call, "field") && faults[i].field == (int)f->id &&
                (faults[i].gpu == ALL_GPUS || faults[i].gpu == gpu->index))
                f->value = 0, f->code = faults[i].code;
        worked |= f->code == OK;
    }
    return worked ? OK : fields->code;
}
int nvmlDeviceGetUtilizationRates(Gpu *gpu, unsigned *rates) {
    ENTER(gpu);
    double phase = now() - (long long)(now() / period) * period, busy = 0;
    for (int i = 0; i < tenant_count; i++)
        if (tenants[i].gpu == gpu->index && here(&tenants[i])) busy += value_at(&tenants[i].active, phase);
    rates[0] = shown(__func__, gpu, busy > 1 ? 100 : busy * 100), rates[1] = 0;
    return gpu->utilization && !gpu->slices ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetMigMode(Gpu *gpu, unsigned *current, unsigned *pending) {
    ENTER(gpu);
    *current = *pending = gpu->slices > 0;
    return gpu->architecture >= 7 && gpu->architecture != 8 ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetMaxMigDeviceCount(Gpu *gpu, unsigned *count) { ENTER(gpu); return *count = gpu->slices, OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(Gpu *gpu, unsigned index, void **handle) {
    ENTER(gpu);
    if (index >= (unsigned)gpu->instances) return NOT_FOUND;
    return *handle = &gpu->instance[index], OK;
}
int nvmlDeviceGetGpuInstanceId(Instance *mig, unsigned *to) { HOLD(); return *to = mig->gi, OK; }
int nvmlDeviceGetComputeInstanceId(Instance *mig, unsigned *to) { HOLD(); return *to = mig->ci, OK; }
int nvmlDeviceGetAttributes_v2(Instance *mig, unsigned *to) {
    HOLD();
    memset(to, 0, 40);
    return to[0] = mig->sms, to[6] = mig->slices, OK;
}

typedef struct { unsigned pid; u64 used; unsigned gi, ci; } Process;
static int processes(Gpu *gpu, unsigned *count, Process *to, int mps) {
    unsigned found = 0, room = *count;
    int clients = 0;
    for (int i = 0; i < tenant_count; i++) clients |= tenants[i].gpu == gpu->index && tenants[i].serves;
    for (int i = 0; i < tenant_count; i++) {
        Tenant *t = &tenants[i];
        if (t->gpu != gpu->index || !here(t) || (mps && (!clients || t->serves))) continue;
        if (to && found < room)
            to[found] = (Process){t->pid, 1 << 30, gpu->slices ? t->gi : ~0u, gpu->slices ? t->ci : ~0u};
        found++;
    }
    if (to && race > 0) return race--, *count = found + 100, INSUFFICIENT_SIZE;
    *count = found;
    return found > (to ? room : 0) ? INSUFFICIENT_SIZE : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *gpu, unsigned *count, Process *to) {
    ENTER(gpu);
    return processes(gpu, count, to, 0);
}
int nvmlDeviceGetMPSComputeRunningProcesses_v3(Gpu *gpu, unsigned *count, Process *to) {
    ENTER(gpu);
    return processes(gpu, count, to, 1);
}
typedef struct { unsigned pid; u64 time; unsigned sm, mem, enc, dec; } Used;
int nvmlDeviceGetProcessUtilization(Gpu *gpu, Used *to, unsigned *count, u64 since_us) {
    ENTER(gpu);
    if (!gpu->utilization || gpu->slices) return NOT_SUPPORTED;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    double ahead = (fixed_now > 0 ? fixed_wall : wall.tv_sec + wall.tv_nsec / 1e9) - now();
    unsigned found = 0;
    int servers = 0;
    for (int i = 0; i < tenant_count; i++) servers |= tenants[i].gpu == gpu->index && tenants[i].serves;
    for (int i = 0; i < tenant_count; i++) { /* one for each: its mean, stamped when it was last active */
        Tenant *tenant = &tenants[i];
        if (tenant->gpu != gpu->index || !here(tenant) || (servers && !tenant->serves)) continue;
        double begin = now() - 10 > since_us / 1e6 - ahead ? now() - 10 : since_us / 1e6 - ahead;
        double sum = 0, last = 0, step = (now() - begin) / 50;
        for (double t = begin + step / 2; step > 0 && t < now(); t += step) {
            double active = value_at(&tenant->active, t - (long long)(t / period) * period);
            sum += active * step;
            if (active > 0) last = t;
        }
        u64 us = (u64)((last - 0.01 * (tenant->pid % 8) + ahead) * 1e6);
        unsigned sm = last > 0 ? sum / (now() - begin) * 100 + 0.5 : 0;
        if (!sm || us <= since_us) continue;
        if (to && found < *count) to[found] = (Used){tenant->pid, us, sm, 0, 0, 0};
        found++;
    }
    if (!found) return NOT_FOUND;
    if (to && race > 0) return race--, INSUFFICIENT_SIZE;
    unsigned room = *count;
    *count = found;
    return to && found <= room ? OK : INSUFFICIENT_SIZE;
}

typedef struct { unsigned version, count; Sample *first, *second;
    struct { unsigned id; int code; double value; const char *names[3]; } metric[]; } Metrics;
int nvmlGpmQueryDeviceSupport(Gpu *gpu, unsigned *support) { ENTER(gpu); return support[1] = gpu->gpm, OK; }
int nvmlGpmSampleAlloc(Sample **sample) { ENTER(NULL); return *sample = calloc(1, sizeof **sample), OK; }
int nvmlGpmSampleFree(Sample *sample) { free(sample); return OK; }
int nvmlGpmMigSampleGet(Gpu *gpu, unsigned gi, Sample *sample) {
    ENTER(gpu);
    *sample = (Sample){now(), gpu->index, gi};
    return gpu->gpm ? OK : NOT_SUPPORTED;
}
int nvmlGpmMetricsGet(Metrics *wanted) {
    ENTER(NULL);
    for (unsigned i = 0; i < wanted->count; i++) {
        double busy = 0, span = wanted->second->at - wanted->first->at;
        for (int n = 0; n < tenant_count; n++)
            if (tenants[n].gpu == wanted->first->gpu && tenants[n].gi == wanted->first->gi && here(&tenants[n]))
                busy += (integral(&tenants[n].active, wanted->second->at) -
                         integral(&tenants[n].active, wanted->first->at)) / span;
        wanted->metric[i].code = span >= 0.1 ? OK : NOT_SUPPORTED;
        wanted->metric[i].value = shown(__func__, &gpus[wanted->first->gpu], busy * 100);
    }
    return OK;
}
