/*
 * Plugins that come and go while the guest runs, and those of windows
 *
 * Each set of plugins that are awake at the same time has a number, by which
 * TBs are told apart (CF_PLUGINS_MASK): those of a window with plugins do not
 * replace those without.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-accel-window-target.h"
#include "qapi/qapi-visit-accel-window-target.h"
#include "qapi/util.h"
#include "qemu/id.h"
#include "qemu/log.h"
#include "qemu/plugin-runtime.h"
#include "exec/tb-flush.h"
#include "system/cpus.h"
#include "system/tcg.h"
#include "internal.h"
#include "window.h"

#define PLUGINS_MAX 32
#define SETS_MAX (CF_PLUGINS_MASK >> CF_PLUGINS_SHIFT)

/* BQL; the list, ctx and the outputs change under the lock below, too. */
typedef struct SwitchPlugin {
    PluginInfo *info;           /* active is left out */
    QemuPluginCtx *ctx;         /* NULL: has uninstalled itself */
    FILE *output;               /* NULL: the log */
    int bit;                    /* in sets of plugins */
    QTAILQ_ENTRY(SwitchPlugin) next;
} SwitchPlugin;

static QTAILQ_HEAD(, SwitchPlugin) plugins = QTAILQ_HEAD_INITIALIZER(plugins);
static QemuMutex outputs_lock;
/* The one that prints its results now, and calls from wherever it likes */
static SwitchPlugin *finishing;

/* All: BQL. */
static uint32_t sets[SETS_MAX + 1];     /* by number; 0: no plugin */
static int sets_used;
static uint32_t awake;

static SwitchPlugin *plugin_find(const char *id)
{
    SwitchPlugin *p;

    QTAILQ_FOREACH(p, &plugins, next) {
        if (g_str_equal(p->info->id, id)) {
            return p;
        }
    }
    return NULL;
}

/* Output */

/*
 * A callback of a plugin's may end with the call, which is then a jump: it
 * seems to come from QEMU.
 */
static bool plugin_outs(const void *caller, const char *text)
{
    /* A plugin that is loaded calls with the lock held that this takes. */
    int count = plugin_runtime_count();
    QEMU_LOCK_GUARD(&outputs_lock);
    SwitchPlugin *p, *from = finishing;

    QTAILQ_FOREACH(p, &plugins, next) {
        if (!from && p->ctx && plugin_runtime_has_code(p->ctx, caller)) {
            from = p;
        }
    }
    if (!from && count == 1) {
        from = QTAILQ_FIRST(&plugins);
    }
    if (!from || !from->output) {
        return false;
    }
    fputs(text, from->output);
    return true;
}

/* The code that QEMU executes for the plugin is gone, as is the plugin. */
static void plugin_gone(QemuPluginCtx *ctx)
{
    QEMU_LOCK_GUARD(&outputs_lock);
    SwitchPlugin *p;

    QTAILQ_FOREACH(p, &plugins, next) {
        if (p->ctx == ctx) {
            p->ctx = NULL;
            /* In TCG its own uninstallation has dropped them. */
            qatomic_set(&switch_state->drop_translations, true);
        }
    }
}

/* Sets */

/* With vCPUs paused: no TB is used again that there is now. */
static void drop_translations(void)
{
    sets_used = 0;
    if (!tcg_enabled()) {
        switch_state->drop_translations = true;
        return;
    }
    /* See distrust_translated_code(). */
    first_cpu->exclusive_context_count++;
    tb_flush(first_cpu);
    first_cpu->exclusive_context_count--;
}

static int set_number(uint32_t set)
{
    if (!set) {
        return 0;
    }
    for (int i = 1; i <= sets_used; i++) {
        if (sets[i] == set) {
            return i;
        }
    }
    if (sets_used == SETS_MAX) {
        drop_translations();
    }
    sets[++sets_used] = set;
    return sets_used;
}

static void wake_set(uint32_t set)
{
    uint32_t number = set_number(set) << CF_PLUGINS_SHIFT;
    SwitchPlugin *p;
    CPUState *cpu;

    awake = set;
    WITH_QEMU_LOCK_GUARD(&outputs_lock) {
        QTAILQ_FOREACH(p, &plugins, next) {
            if (p->ctx) {
                plugin_runtime_wake(p->ctx, set & 1u << p->bit);
            }
        }
    }
    CPU_FOREACH(cpu) {
        cpu->tcg_cflags = (cpu->tcg_cflags & ~CF_PLUGINS_MASK) | number;
        if (cpu->cflags_next_tb != -1) {
            cpu->cflags_next_tb = (cpu->cflags_next_tb & ~CF_PLUGINS_MASK) |
                                  number;
        }
    }
}

static uint32_t permanent_set(void)
{
    SwitchPlugin *p;
    uint32_t set = 0;

    QTAILQ_FOREACH(p, &plugins, next) {
        set |= p->info->windows ? 0 : 1u << p->bit;
    }
    return set;
}

void switch_plugins_for_window(const AccelWindow *spec)
{
    const strList *l = spec ? spec->plugins : NULL;
    uint32_t set = permanent_set();

    for (; l; l = l->next) {
        SwitchPlugin *p = plugin_find(l->value);

        set |= p ? 1u << p->bit : 0;
    }
    if (set != awake) {
        wake_set(set);
    }
}

bool switch_plugins_check(const AccelWindow *spec, Error **errp)
{
    const strList *l = spec ? spec->plugins : NULL;

    for (; l; l = l->next) {
        if (!plugin_find(l->value)) {
            error_setg(errp, "there is no plugin '%s'", l->value);
            return false;
        }
    }
    return true;
}

/* Commands */

static bool plugin_check(const PluginOptions *options, struct stat *st,
                         Error **errp)
{
    if (!accel_switch_configured()) {
        error_setg(errp, "QEMU was started without -accel switch");
        return false;
    }
    if (!switch_state->plugins && !plugin_runtime_count()) {
        error_setg(errp, "a plugin is code that QEMU executes; to allow it,"
                   " start QEMU with -accel switch,plugins=on, or with a"
                   " -plugin");
        return false;
    }
    if (!id_wellformed(options->id)) {
        error_setg(errp, "'%s' is no name for a plugin: it must begin with a"
                   " letter and have only letters, digits, '-', '.' and '_'",
                   options->id);
        return false;
    }
    if (plugin_find(options->id)) {
        error_setg(errp, "there is a plugin '%s' already", options->id);
        return false;
    }
    if (stat(options->file, st) < 0) {
        error_setg_file_open(errp, errno, options->file);
        return false;
    }
    if (plugin_runtime_has_file(st->st_dev, st->st_ino)) {
        error_setg(errp, "plugin '%s' is loaded already, and would share its"
                   " variables; load a copy of the file", options->file);
        return false;
    }
    return true;
}

static int free_bit(void)
{
    uint32_t taken = 0;
    SwitchPlugin *p;

    QTAILQ_FOREACH(p, &plugins, next) {
        taken |= 1u << p->bit;
    }
    return taken == UINT32_MAX ? -1 : ctz32(~taken);
}

/* The plugin's arguments as -plugin gives them: "name" is "name=on". */
static char **plugin_argv(strList *arguments, int *argc)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    for (strList *l = arguments; l; l = l->next) {
        g_ptr_array_add(argv, strchr(l->value, '=')
                              ? g_strdup(l->value)
                              : g_strdup_printf("%s=on", l->value));
    }
    *argc = argv->len;
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&argv), false);
}

static PluginInfo *plugin_new_info(const PluginOptions *options)
{
    PluginInfo *info = g_new0(PluginInfo, 1);

    info->id = g_strdup(options->id);
    info->file = g_strdup(options->file);
    info->has_arguments = options->has_arguments;
    info->arguments = QAPI_CLONE(strList, options->arguments);
    info->output = g_strdup(options->output);
    info->has_windows = true;
    info->windows = options->has_windows && options->windows;
    return info;
}

static void plugin_free(SwitchPlugin *p)
{
    if (p->output) {
        fclose(p->output);
    }
    qapi_free_PluginInfo(p->info);
    g_free(p);
}

void qmp_plugin_add(PluginOptions *options, Error **errp)
{
    g_auto(GStrv) argv = NULL;
    SwitchPlugin *p;
    struct stat st;
    int argc;

    if (!plugin_check(options, &st, errp)) {
        return;
    }
    p = g_new0(SwitchPlugin, 1);
    p->info = plugin_new_info(options);
    p->bit = free_bit();
    if (p->bit < 0) {
        error_setg(errp, "there are %d plugins already", PLUGINS_MAX);
        plugin_free(p);
        return;
    }
    if (options->output) {
        p->output = fopen(options->output, "w");
        if (!p->output) {
            error_setg_file_open(errp, errno, options->output);
            plugin_free(p);
            return;
        }
        setvbuf(p->output, NULL, _IOLBF, 0);
    } else if (!qemu_loglevel_mask(CPU_LOG_PLUGIN)) {
        qemu_set_log(qemu_loglevel | CPU_LOG_PLUGIN, NULL);
    }
    argv = plugin_argv(options->arguments, &argc);
    plugin_runtime_outs = plugin_outs;
    plugin_runtime_gone = plugin_gone;

    pause_all_vcpus();
    /* What it prints as it is loaded */
    WITH_QEMU_LOCK_GUARD(&outputs_lock) {
        finishing = p;
    }
    p->ctx = plugin_runtime_load(options->file, argc, argv, errp);
    WITH_QEMU_LOCK_GUARD(&outputs_lock) {
        finishing = NULL;
        if (p->ctx) {
            QTAILQ_INSERT_TAIL(&plugins, p, next);
        }
    }
    if (!p->ctx) {
        plugin_free(p);
    } else if (!p->info->windows) {
        wake_set(awake | 1u << p->bit);
    }
    resume_all_vcpus();
}

void qmp_plugin_del(const char *id, Error **errp)
{
    SwitchPlugin *p = plugin_find(id);
    QemuPluginCtx *ctx;
    const char *user;

    if (!p) {
        error_setg(errp, "there is no plugin '%s'", id);
        return;
    }
    user = switch_trigger_of_plugin(id);
    if (user) {
        error_setg(errp, "trigger '%s' names plugin '%s': delete it first",
                   user, id);
        return;
    }
    pause_all_vcpus();
    drop_translations();
    wake_set(awake & ~(1u << p->bit));
    WITH_QEMU_LOCK_GUARD(&outputs_lock) {
        finishing = p;
        ctx = p->ctx;
    }
    if (ctx) {
        plugin_runtime_finish(ctx);
    }
    WITH_QEMU_LOCK_GUARD(&outputs_lock) {
        ctx = p->ctx;
        QTAILQ_REMOVE(&plugins, p, next);
    }
    if (ctx) {
        plugin_runtime_unload(ctx);
    }
    WITH_QEMU_LOCK_GUARD(&outputs_lock) {
        finishing = NULL;
    }
    plugin_free(p);
    resume_all_vcpus();
}

PluginInfoList *qmp_query_plugins(Error **errp)
{
    PluginInfoList *list = NULL, **tail = &list;
    SwitchPlugin *p;

    QTAILQ_FOREACH(p, &plugins, next) {
        PluginInfo *info = QAPI_CLONE(PluginInfo, p->info);

        info->active = awake & 1u << p->bit;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

void switch_init_plugins(void)
{
    qemu_mutex_init(&outputs_lock);
}
