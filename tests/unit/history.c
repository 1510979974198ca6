/* SPDX-License-Identifier: MIT */
/* Suite for src/machine/history.c: what is kept comes back, and trouble with the file is one line.
 */
#include "machine/machine.h"
#include "machine/measured.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <sqlite3.h>
#include <cmocka.h>

static char directory[64];

static const char *in_directory(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/membound-test-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static struct mb_machine *bare(const char *fingerprint)
{
    struct mb_machine *machine = mb_machine_new(MB_ORIGIN_DETECTED);
    struct mb_pool ram = {
        .id = "ram", .kind = MB_POOL_SYSTEM, .capacity_bytes = {8 * MB_GIB, MB_REPORTED, "x"}};
    struct mb_processor cpu = {.id = "cpu"};
    mb_machine_add_pool(machine, &ram);
    mb_machine_add_read(machine, mb_machine_add_processor(machine, &cpu), 0, (struct mb_figure){0});
    machine->fingerprint = mb_arena_text(mb_machine_arena(machine), fingerprint);
    assert_int_equal(mb_machine_finish(machine, NULL), MB_OK);
    return machine;
}

static struct mb_machine *measured(const char *fingerprint, double age_s, double rate)
{
    struct mb_machine *machine = bare(fingerprint);
    struct mb_arena *arena = mb_machine_arena(machine);
    struct mb_measurement *measurement = mb_arena_alloc(arena, sizeof *measurement);
    time_t then = time(NULL) - (time_t)age_s;
    struct tm tm;
    char date[32];
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&then, &tm));
    measurement->date = mb_arena_text(arena, date);
    measurement->version = "0.1.0";
    measurement->series = mb_arena_array(arena, 1, sizeof *measurement->series);
    measurement->n_series = 1;
    measurement->series[0] =
        (struct mb_measured){.bytes_per_s = rate, .n_threads = 2, .method = "avx2 loads"};
    assert_int_equal(mb_machine_apply_measurement(machine, measurement), MB_OK);
    return machine;
}

static int save(const char *path, const char *fingerprint, double age_s, double rate,
                struct mb_err *err)
{
    struct mb_machine *machine = measured(fingerprint, age_s, rate);
    int code = mb_history_save(path, machine, err);
    mb_machine_free(machine);
    return code;
}

static void the_newest_comes_back(void **state)
{
    (void)state;
    struct mb_err err = {0};
    const char *path = in_directory("a/b/history.db");
    assert_int_equal(save(path, "here", 3.2 * 86400, 59.3e9, &err), MB_OK);
    assert_int_equal(save(path, "here", 10 * 86400, 11e9, &err), MB_OK);
    assert_int_equal(save(path, "there", 0, 99e9, &err), MB_OK);
    struct stat st;
    assert_int_equal(stat(in_directory("a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    struct mb_machine *machine = bare("here");
    if (mb_history_load(in_directory("a/b/history.db"), machine, &err) != MB_OK)
        fail_msg("%s", err.text);
    const struct mb_figure *read = &machine->processors[0].reads[0].bytes_per_s;
    assert_true(read->value == 59.3e9);
    assert_string_equal(read->detail,
                        "2 threads, avx2 loads, 3 days ago with membound 0.1.0");
    assert_true(machine->pools[0].bandwidth_bytes_per_s.value == 59.3e9);
    assert_true(machine->measurement->age_s > 3 * 86400 && machine->measurement->age_s < 4 * 86400);
    mb_machine_free(machine);
    machine = bare("elsewhere");
    assert_int_equal(mb_history_load(in_directory("a/b/history.db"), machine, &err), MB_ENODATA);
    mb_machine_free(machine);
}

static void old_ones_are_dropped(void **state)
{
    (void)state;
    struct mb_err err = {0};
    for (int i = 0; i < 105; i++)
        assert_int_equal(save(in_directory("h.db"), "here", 1000 - i, 1e9 + i, &err), MB_OK);
    sqlite3 *db;
    sqlite3_stmt *query;
    assert_int_equal(sqlite3_open(in_directory("h.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM measurements", -1, &query, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(query), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(query, 0), 100);
    sqlite3_finalize(query);
    sqlite3_close(db);
    struct mb_machine *machine = bare("here");
    assert_int_equal(mb_history_load(in_directory("h.db"), machine, &err), MB_OK);
    assert_true(machine->pools[0].bandwidth_bytes_per_s.value == 1e9 + 104);
    mb_machine_free(machine);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < 200; i++)
        fputs(text, file);
    fclose(file);
}

static void a_damaged_file_is_moved_aside(void **state)
{
    (void)state;
    struct mb_err err = {0};
    write_file(in_directory("h.db"), "this is no database");
    struct mb_machine *machine = bare("here");
    assert_int_equal(mb_history_load(in_directory("h.db"), machine, &err), MB_EIO);
    assert_null(machine->measurement);
    if (save(in_directory("h.db"), "here", 0, 7e9, &err) != MB_OK)
        fail_msg("%s", err.text);
    assert_int_equal(access(in_directory("h.db.corrupt"), F_OK), 0);
    assert_int_equal(mb_history_load(in_directory("h.db"), machine, &err), MB_OK);
    assert_true(machine->pools[0].bandwidth_bytes_per_s.value == 7e9);
    mb_machine_free(machine);
}

static void execute(const char *path, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void strange_rows_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "'{}'",
        "'nonsense'",
        "x'00ff'",
        "42",
        "'{\"date\":\"yesterday\",\"series\":[]}'",
        "'{\"date\":\"2026-01-01T00:00:00Z\",\"series\":[{\"kind\":\"write\"}]}'"};
    struct mb_err err = {0};
    struct mb_machine *machine = bare("here");
    assert_int_equal(save(in_directory("h.db"), "other", 0, 7e9, &err), MB_OK);
    for (size_t i = 0; i < MB_COUNT(rows); i++) {
        char sql[300];
        snprintf(sql, sizeof sql,
                 "DELETE FROM measurements; INSERT INTO measurements VALUES('here','x','0',%s)",
                 rows[i]);
        execute(in_directory("h.db"), sql);
        assert_int_equal(mb_history_load(in_directory("h.db"), machine, &err), MB_EIO);
        assert_null(machine->measurement);
    }
    /* A part that is gone is no mistake: its series is ignored. */
    execute(
        in_directory("h.db"),
        "DELETE FROM measurements; INSERT INTO measurements VALUES('here','x','0',"
        "'{\"date\":\"2999-01-01T00:00:00Z\",\"series\":[{\"kind\":\"read\",\"processor\":\"gpu7\","
        "\"pool\":\"ram\",\"bytes_per_s\":5e9}]}')");
    assert_int_equal(mb_history_load(in_directory("h.db"), machine, &err), MB_OK);
    assert_false(mb_figure_known(&machine->pools[0].bandwidth_bytes_per_s));
    assert_true(machine->measurement->age_s == 0);
    /* A newer program's file is left alone. */
    execute(in_directory("h.db"), "PRAGMA user_version = 2");
    assert_int_equal(mb_history_load(in_directory("h.db"), machine, &err), MB_EIO);
    assert_int_equal(save(in_directory("h.db"), "here", 0, 7e9, &err), MB_EWRITE);
    assert_int_not_equal(access(in_directory("h.db.corrupt"), F_OK), 0);
    mb_machine_free(machine);
}

static void unwritable_places_are_told(void **state)
{
    (void)state;
    struct mb_err err = {0};
    write_file(in_directory("file"), "x");
    assert_int_equal(save(in_directory("file/below/h.db"), "here", 0, 7e9, &err), MB_EWRITE);
    assert_int_equal(save("/proc/no/such/h.db", "here", 0, 7e9, &err), MB_EWRITE);
    assert_int_equal(save(directory, "here", 0, 7e9, &err), MB_EWRITE);
    assert_int_equal(mkfifo(in_directory("fifo"), 0600), 0);
    assert_int_equal(save(in_directory("fifo"), "here", 0, 7e9, &err), MB_EWRITE);
    struct mb_machine *machine = bare("here");
    assert_int_equal(mb_history_load(in_directory("fifo"), machine, &err), MB_EIO);
    assert_int_equal(mb_history_load(in_directory("nothing"), machine, &err), MB_ENODATA);
    write_file(in_directory("empty"), "");
    assert_int_equal(mb_history_load(in_directory("empty"), machine, &err), MB_ENODATA);
    assert_int_equal(mb_history_save(in_directory("h.db"), machine, &err), MB_EINVAL);
    mb_machine_free(machine);
}

/* A disk that is full: files may not grow beyond one page. */
static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    struct mb_err err = {0};
    assert_int_equal(save(in_directory("h.db"), "here", 100, 7e9, &err), MB_OK);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    small = before;
    small.rlim_cur = 1024;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int code = save(in_directory("h.db"), "here", 0, 8e9, &err);
    int fresh = save(in_directory("new.db"), "here", 0, 8e9, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(code, MB_EWRITE);
    assert_int_equal(fresh, MB_EWRITE);
    struct mb_machine *machine = bare("here");
    assert_int_equal(mb_history_load(in_directory("h.db"), machine, &err), MB_OK);
    assert_true(machine->pools[0].bandwidth_bytes_per_s.value == 7e9);
    mb_machine_free(machine);
}

static void another_writer_is_waited_for_shortly(void **state)
{
    (void)state;
    struct mb_err err = {0};
    assert_int_equal(save(in_directory("h.db"), "here", 0, 7e9, &err), MB_OK);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(in_directory("h.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(save(in_directory("h.db"), "here", 0, 8e9, &err), MB_EWRITE);
    assert_non_null(strstr(err.text, "locked"));
    sqlite3_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(old_ones_are_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_moved_aside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strange_rows_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unwritable_places_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_leaves_the_old_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_writer_is_waited_for_shortly, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
