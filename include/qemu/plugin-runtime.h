/*
 * Plugins that come and go while the guest runs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QEMU_PLUGIN_RUNTIME_H
#define QEMU_PLUGIN_RUNTIME_H

typedef struct qemu_plugin_ctx QemuPluginCtx;

/*
 * In tcg_cflags and TBs: which plugins have instrumented a TB, as a number from
 * 1 on.  0: those of -plugin alone, which are in all TBs.
 */
#define CF_PLUGINS_MASK     0x00f80000
#define CF_PLUGINS_SHIFT    19

/* Unless a comment says otherwise: main thread, BQL held, vCPUs paused. */

/**
 * plugin_runtime_load: as -plugin file=@file,@argv
 * @argv: NAME=VALUE, @argc of them; copied
 *
 * The plugin sees each vCPU as if it had been there at the start.  It
 * instruments nothing before plugin_runtime_wake().  Drops the BQL for a
 * moment.  Returns NULL, and sets @errp, if the file is no plugin or the plugin
 * refuses.
 */
QemuPluginCtx *plugin_runtime_load(const char *file, int argc, char **argv,
                                   Error **errp);

/**
 * plugin_runtime_finish: have the plugin do what it does when QEMU ends
 *
 * Stock plugins print their results then.  Only plugin_runtime_unload() may
 * follow.
 */
void plugin_runtime_finish(QemuPluginCtx *ctx);

/**
 * plugin_runtime_unload: the plugin is gone
 *
 * No TB that it has instrumented may be executed any more.  Drops the BQL for a
 * moment.
 */
void plugin_runtime_unload(QemuPluginCtx *ctx);

/* Whether the plugin instruments what is translated from now on */
void plugin_runtime_wake(QemuPluginCtx *ctx, bool awake);

/* Is the file with these numbers a plugin that is there? */
bool plugin_runtime_has_file(dev_t device, ino_t inode);
/* Did the code at @address come with this plugin?  Any thread. */
bool plugin_runtime_has_code(QemuPluginCtx *ctx, const void *address);

/* How many plugins are there? */
int plugin_runtime_count(void);

/**
 * plugin_runtime_gone: a plugin has uninstalled itself, and is freed
 *
 * All vCPUs are out of TBs; any thread, BQL held or not.
 */
extern void (*plugin_runtime_gone)(QemuPluginCtx *ctx);

/**
 * plugin_runtime_outs: where the text of qemu_plugin_outs() goes
 *
 * @caller: who has called it.  Any thread.  NULL until somebody sets it.
 * Returns false if it is to go to the log.
 */
extern bool (*plugin_runtime_outs)(const void *caller, const char *text);

#endif
