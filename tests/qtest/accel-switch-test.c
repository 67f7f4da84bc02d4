/*
 * The accelerator switch's monitor commands, where nothing can be switched,
 * and their schema: needs no KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "libqtest.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"

#define WITHOUT_SWITCH "QEMU was started without -accel switch"

/* Machines where nothing can be switched */

typedef struct Plain {
    const char *path, *arguments;
    const char *active;
} Plain;

static const Plain plain[] = {
    { "qtest", "", "qtest" },
    { "tcg", "-accel tcg", "tcg" },
    /* What libqtest gives as the last one is fallen back to. */
    { "fallback", "-accel switch,device=/nonexistent", "qtest" },
};

static const struct {
    const char *command, *arguments, *error;
} qmp_errors[] = {
    { "switch-accel", "{ 'accel': 'kvm' }", WITHOUT_SWITCH },
    { "switch-accel", "{ 'accel': 'tcg' }", WITHOUT_SWITCH },
    { "switch-accel", "{ 'accel': 'xen' }", "does not accept value 'xen'" },
    { "switch-accel", "{}", "'accel' is missing" },
    { "switch-accel", "{ 'accel': 'kvm', 'now': true }",
      "'now' is unexpected" },
    { "x-accel-roundtrip", "{}", WITHOUT_SWITCH },
    { "query-accel", "{ 'accel': 'kvm' }", "'accel' is unexpected" },
    { "accel-trigger-add", "{ 'id': 't', 'on': { 'type': 'kvm-error' } }",
      WITHOUT_SWITCH },
    { "accel-trigger-del", "{ 'id': 't' }", "there is no trigger 't'" },
    { "plugin-add", "{ 'id': 'p', 'file': 'p.so' }", WITHOUT_SWITCH },
    { "plugin-del", "{ 'id': 'p' }", "there is no plugin 'p'" },
    { "kvm-trace-start", "{ 'file': 't' }", WITHOUT_SWITCH },
    { "accel-compare", "{ 'max-instructions': 1 }", WITHOUT_SWITCH },
    { "kvm-trace-stop", "{}", "no trace runs" },
};

static const struct {
    const char *command, *says;
} hmp_lines[] = {
    { "switch_accel", "Error: can't switch: " WITHOUT_SWITCH },
    { "switch_accel kvm", "Error: can't switch: " WITHOUT_SWITCH },
    { "switch_accel tcg", "Error: can't switch: " WITHOUT_SWITCH },
    { "switch_accel xen", "Error: there is no accelerator 'xen' to switch to;"
                          " use kvm or tcg" },
    { "x_accel_roundtrip", "Error: can't switch: " WITHOUT_SWITCH },
    { "help switch_accel", "switch_accel [kvm|tcg [max-downtime-ms]] -- move"
                           " the running guest to the other accelerator" },
    { "help x_accel_roundtrip", "x_accel_roundtrip  -- move the guest to the"
                                " other accelerator and back, and compare" },
    { "accel_trigger_add id=t,on.type=kvm-error", "Error: " WITHOUT_SWITCH },
    { "accel_trigger_del t", "Error: there is no trigger 't'" },
    { "info accel-triggers", "no triggers" },
    { "plugin_add p p.so", "Error: " WITHOUT_SWITCH },
    { "plugin_del p", "Error: there is no plugin 'p'" },
    { "info plugins", "no plugins" },
    { "kvm_trace_start t", "Error: " WITHOUT_SWITCH },
    { "kvm_trace_stop", "Error: no trace runs" },
    { "info kvm-trace", "no trace" },
    { "help kvm_trace_start", "kvm_trace_start file [max-instructions] --"
                              " record the instructions that the guest executes"
                              " under KVM" },
    { "help info accel", "info accel  -- show the accelerator that runs the"
                         " guest" },
};

static void assert_hmp(QTestState *qts, const char *command, const char *says)
{
    g_autofree char *output = qtest_hmp(qts, "%s", command);
    g_auto(GStrv) parts = g_strsplit(output, "\r", -1);
    g_autofree char *lines = g_strjoinv("", parts);

    g_assert_cmpstr(lines, ==, says);
}

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        g_error("expected: ...%s...\ngot: %s", part, text);
    }
}

/* query-accel and "info accel": nothing was switched, and why. */
static void assert_unswitched(QTestState *qts, const char *active)
{
    g_autoptr(QDict) answer = qtest_qmp_assert_success_ref(
        qts, "{ 'execute': 'query-accel' }");
    g_autoptr(QDict) expected = qdict_from_jsonf_nofail(
        "{ 'active': %s, 'available': [ %s ], 'switches': 0,"
        "  'blockers': [ { 'id': 'not-configured',"
        "                  'reason': '" WITHOUT_SWITCH "' } ] }",
        active, active);
    g_autofree char *text = g_strdup_printf(
        "active: %s\navailable: %s\nswitches: 0\nblocked: " WITHOUT_SWITCH
        "\n", active, active);

    g_assert_true(qobject_is_equal(QOBJECT(answer), QOBJECT(expected)));
    assert_hmp(qts, "info accel", text);
}

static void test_plain(const void *data)
{
    const Plain *p = data;
    QTestState *qts = qtest_initf("-machine none %s", p->arguments);

    assert_unswitched(qts, p->active);
    for (int i = 0; i < ARRAY_SIZE(qmp_errors); i++) {
        g_autoptr(QDict) answer = qtest_qmp_assert_failure_ref(
            qts, "{ 'execute': %s, 'arguments': %p }", qmp_errors[i].command,
            qobject_from_json(qmp_errors[i].arguments, &error_abort));

        g_assert_cmpstr(qdict_get_str(answer, "class"), ==, "GenericError");
        assert_contains(qdict_get_str(answer, "desc"), qmp_errors[i].error);
    }
    for (int i = 0; i < ARRAY_SIZE(hmp_lines); i++) {
        g_autofree char *line = g_strconcat(hmp_lines[i].says, "\n", NULL);

        assert_hmp(qts, hmp_lines[i].command, line);
    }
    assert_unswitched(qts, p->active);
    qtest_quit(qts);
}

/* The schema, with each type written out in place of its name */

#define ACCELS "(kvm|tcg)"
#define SWITCH_FIGURES \
    "from:" ACCELS " to:" ACCELS " downtime-ns:int phases:{quiesce-ns:int" \
    " export-ns:int convert-ns:int import-ns:int resume-ns:int}"
#define SWITCH_INFO "{" SWITCH_FIGURES "}"
#define WINDOW \
    "{end?:{type:(instructions|time|address|return|port|never)" \
    " instructions={count:int} time={ns:int} address={address:int}" \
    " port={number:int}} accel?:" ACCELS " plugins?:[str]}"
#define VALUE "{name:str kvm:int tcg:int before?:int}"
#define PLUGIN "id:str file:str arguments?:[str] output?:str windows?:bool"
#define TRIGGER \
    "id:str on:{type:(address|syscall|interrupt|port|timer|kvm-error)" \
    " address={address:int} syscall={number?:int} interrupt={vector:int}" \
    " port={number:int} timer={period-ns:int jitter-ns?:int" \
    " clock?:(guest|host)}}" \
    " filter?:{cpu-index?:int cr3?:int cpl?:int} skip?:int every?:int" \
    " count?:int window?:" WINDOW

static const struct {
    const char *name, *type, *expected;
} schema_types[] = {
    { "switch-accel", "arg-type",
      "{accel:" ACCELS " max-downtime-ms?:int window?:" WINDOW "}" },
    { "switch-accel", "ret-type", SWITCH_INFO },
    { "query-accel", "arg-type", "{}" },
    { "query-accel", "ret-type",
      "{active:str available:[str] switches:int"
      " blockers:[{id:str reason:str}] last?:" SWITCH_INFO
      " translations?:{made:int kept:int dropped:int pages-compared:int"
      " flushes:int} features-lost?:[str]}" },
    { "x-accel-roundtrip", "arg-type", "{}" },
    { "x-accel-roundtrip", "ret-type", "{}" },
    { "ACCEL_SWITCHED", "arg-type", "{" SWITCH_FIGURES " by-guest?:bool}" },
    { "accel-trigger-add", "arg-type", "{" TRIGGER "}" },
    { "accel-trigger-add", "ret-type", "{}" },
    { "accel-trigger-del", "arg-type", "{id:str}" },
    { "query-accel-triggers", "arg-type", "{}" },
    { "query-accel-triggers", "ret-type",
      "[{" TRIGGER " armed:bool hits:int filtered:int windows:int"
      " refused:int}]" },
    { "ACCEL_WINDOW_BEGIN", "arg-type",
      "{id?:str cpu-index:int rip:int cr3:int}" },
    { "ACCEL_WINDOW_END", "arg-type",
      "{id?:str reason:(instructions|time|address|return|port|command)"
      " accel:" ACCELS " cpu-index:int rip:int cr3:int instructions:int"
      " ns:int}" },
    { "plugin-add", "arg-type", "{" PLUGIN "}" },
    { "plugin-del", "arg-type", "{id:str}" },
    { "query-plugins", "ret-type", "[{" PLUGIN " active:bool}]" },
    { "ACCEL_WINDOW_STUCK", "arg-type", "{id?:str why:str}" },
    { "ACCEL_TRIGGER_DROPPED", "arg-type", "{id:str reason:str}" },
    { "kvm-trace-start", "arg-type",
      "{file:str cpu-index?:int filter?:{cr3?:int cpl?:int}"
      " max-instructions?:int interrupts-every?:int stop?:bool}" },
    { "accel-compare", "arg-type", "{max-instructions:int cpu-index?:int}" },
    { "accel-compare", "ret-type",
      "{instructions:int user-instructions:int end:(count|port|mmio|time|random"
      "|msr|lapic|halt|hypervisor|smm|string|debug|shutdown|kvm) next:int"
      " next-code:str mode:int"
      " differences:[{number:int address:int code:str mode:int"
      " values:[" VALUE "]}]"
      " blocks:int block-differences:[{number:int address:int code:str mode:int"
      " values:[" VALUE "]}]"
      " block-state:[" VALUE "] block-memory:[" VALUE "] state:[" VALUE "]"
      " memory:[{address:int kvm:str tcg:str before:str}] pages:int}" },
    { "query-kvm-trace", "ret-type",
      "{running:bool file?:str instructions:int stepped:int gaps:int}" },
    { "KVM_TRACE_END", "arg-type",
      "{reason:(command|max-instructions|file|debugger|shutdown|kvm-error|load) file:str"
      " instructions:int gaps:int error?:str}" },
};

static QDict *schema_find(QList *schema, const char *name)
{
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(schema, entry) {
        QDict *entity = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(entity, "name"), name)) {
            return entity;
        }
    }
    g_error("the schema has no '%s'", name);
}

static void schema_write(GString *out, QList *schema, const char *name);

/* The members that a union has beside, after each value of its type. */
static void schema_write_variants(GString *out, QList *schema, QDict *type)
{
    QListEntry *entry;

    if (!qdict_haskey(type, "variants")) {
        return;
    }
    QLIST_FOREACH_ENTRY(qdict_get_qlist(type, "variants"), entry) {
        QDict *variant = qobject_to(QDict, qlist_entry_obj(entry));
        g_autoptr(GString) members = g_string_new("");

        schema_write(members, schema, qdict_get_str(variant, "type"));
        if (!g_str_equal(members->str, "{}")) {
            g_string_append_printf(out, " %s=%s",
                                   qdict_get_str(variant, "case"),
                                   members->str);
        }
    }
}

static void schema_write(GString *out, QList *schema, const char *name)
{
    QDict *type = schema_find(schema, name);
    const char *meta = qdict_get_str(type, "meta-type");
    const char *separator = "";
    QListEntry *entry;

    if (g_str_equal(meta, "array")) {
        g_string_append_c(out, '[');
        schema_write(out, schema, qdict_get_str(type, "element-type"));
        g_string_append_c(out, ']');
    } else if (g_str_equal(meta, "enum")) {
        QLIST_FOREACH_ENTRY(qdict_get_qlist(type, "values"), entry) {
            QString *value = qobject_to(QString, qlist_entry_obj(entry));

            g_string_append(out, *separator ? "|" : "(");
            g_string_append(out, qstring_get_str(value));
            separator = "|";
        }
        g_string_append_c(out, ')');
    } else if (g_str_equal(meta, "object")) {
        g_string_append_c(out, '{');
        QLIST_FOREACH_ENTRY(qdict_get_qlist(type, "members"), entry) {
            QDict *member = qobject_to(QDict, qlist_entry_obj(entry));

            g_string_append_printf(out, "%s%s%s:", separator,
                                   qdict_get_str(member, "name"),
                                   qdict_haskey(member, "default") ? "?" : "");
            schema_write(out, schema, qdict_get_str(member, "type"));
            separator = " ";
        }
        schema_write_variants(out, schema, type);
        g_string_append_c(out, '}');
    } else {
        g_string_append(out, name);
    }
}

static void test_schema(void)
{
    QTestState *qts = qtest_init("-machine none");
    g_autoptr(QDict) answer = qtest_qmp(qts,
                                        "{ 'execute': 'query-qmp-schema' }");
    QList *schema = qdict_get_qlist(answer, "return");

    for (int i = 0; i < ARRAY_SIZE(schema_types); i++) {
        QDict *entity = schema_find(schema, schema_types[i].name);
        g_autoptr(GString) text = g_string_new("");

        schema_write(text, schema,
                     qdict_get_str(entity, schema_types[i].type));
        g_assert_cmpstr(text->str, ==, schema_types[i].expected);
    }
    g_assert_true(qdict_haskey(schema_find(schema, "x-accel-roundtrip"),
                               "features"));     /* unstable */
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int i = 0; i < ARRAY_SIZE(plain); i++) {
        g_autofree char *path = g_strdup_printf("accel-switch/plain/%s",
                                                plain[i].path);

        qtest_add_data_func(path, &plain[i], test_plain);
    }
    qtest_add_func("accel-switch/schema", test_schema);
    return g_test_run();
}
