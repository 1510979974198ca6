/* SPDX-License-Identifier: MIT */
/* Measurements that were taken before, in an SQLite file: measuring takes half a minute, reading
 * takes a millisecond. The file is a convenience, so that trouble with it (no home, a full disk, a
 * damaged file) is one line and no failure of anything else. Where the file lives is left to the
 * program. */
#include "machine/machine.h"
#include "machine/measured.h"

#include <errno.h>
#include <limits.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Layout of the file, kept in its user_version. */
enum { LAYOUT = 1, LAYOUT_NEWER = -1, BUSY_MS = 200, MAX_JSON_BYTES = 4 << 20 };

/* Make the directory of path and those above it. 0, or -1 with errno. */
static int make_directory_of(const char *path)
{
    char directory[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof directory) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(directory, path, n + 1);
    for (char *slash = strchr(directory + 1, '/'); *directory && slash;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(directory, 0700) != 0) {
            /* Read-only file systems answer EROFS for what exists, too, so look before believing.
             */
            int why = errno;
            struct stat st;
            if (stat(directory, &st) != 0 || !S_ISDIR(st.st_mode)) {
                errno = why == EEXIST ? ENOTDIR : why;
                return -1;
            }
        }
        *slash = '/';
    }
    return 0;
}

/* Open a database of ours: a regular file or none. SQLite's code; *db must be closed whatever it
 * is. */
static int open_database(const char *path, int flags, sqlite3 **db)
{
    struct stat st;
    *db = NULL;
    /* Opening a FIFO would block. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return SQLITE_CANTOPEN;
    int code = sqlite3_open_v2(path, db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code == SQLITE_OK) {
        sqlite3_busy_timeout(*db, BUSY_MS);
        sqlite3_db_config(*db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        /* Whoever wrote the file, its schema runs no code here. */
        sqlite3_db_config(*db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    }
    return code;
}

/* The layout number of an open database; 0: empty, -1 with *code: unreadable. */
static int layout_of(sqlite3 *db, int *code)
{
    sqlite3_stmt *query = NULL;
    int layout = -1;
    *code = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &query, NULL);
    if (*code == SQLITE_OK && (*code = sqlite3_step(query)) == SQLITE_ROW)
        layout = sqlite3_column_int(query, 0);
    sqlite3_finalize(query);
    return layout;
}

static int is_corrupt(int code)
{
    return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;
}

/* Seconds since a "2026-11-23T01:19:43Z"; -1 when it is no such text. A date in the future is now:
 * clocks get set back. */
static double age_of(const char *date)
{
    struct tm tm = {0};
    char last = 0, rest = 0;
    if (!date ||
        sscanf(date, "%4d-%2d-%2dT%2d:%2d:%2d%c%c", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
               &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &last, &rest) != 7 ||
        last != 'Z')
        return -1;
    if (tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12)
        return -1;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    double age = difftime(time(NULL), timegm(&tm));
    return age > 0 ? age : 0;
}

/* Read the JSON of a measurement and make it the machine's. */
static int take(const char *path, const char *json, size_t n, struct mb_machine *machine,
                struct mb_err *err)
{
    struct mb_err why;
    json_t *root = mb_json_parse(json, n, "measurement", &why);
    struct mb_reader reader = {
        .arena = mb_machine_arena(machine), .file = "measurement", .err = &why};
    struct mb_measurement *measurement =
        root ? mb_measurement_read(&reader, root, machine, 1) : NULL;
    json_decref(root);
    if (!measurement)
        return why.code == MB_ENOMEM
                   ? mb_fail_memory(err)
                   : mb_fail(err, MB_EIO, "%.160s: %.160s; measure again", path, why.text);
    measurement->age_s = age_of(measurement->date);
    if (measurement->age_s < 0)
        return mb_fail(err, MB_EIO, "%.160s: a measurement without a date; measure again", path);
    return mb_machine_apply_measurement(machine, measurement) ? mb_fail_memory(err) : MB_OK;
}

int mb_history_load(const char *path, struct mb_machine *machine, struct mb_err *err)
{
    static const char sql[] =
        "SELECT json FROM measurements WHERE fingerprint = ?1 ORDER BY date DESC, rowid DESC LIMIT 1";
    struct stat st;
    if (!machine->fingerprint || stat(path, &st) != 0)
        return mb_fail(
            err, MB_ENODATA,
            "%.200s: nothing measured on this machine; membound machine --measure does it", path);
    sqlite3 *db;
    sqlite3_stmt *query = NULL;
    int result = MB_OK, code = open_database(path, SQLITE_OPEN_READONLY, &db), layout = 0;
    if (code == SQLITE_OK)
        layout = layout_of(db, &code);
    if (layout < 0 || (code != SQLITE_OK && code != SQLITE_ROW)) {
        result = mb_fail(err, MB_EIO, "%.200s: %s; measuring again begins a new one", path,
                         sqlite3_errstr(code));
    } else if (layout > LAYOUT) {
        result =
            mb_fail(err, MB_EIO,
                    "%.200s: written by a newer membound; use that one or remove the file", path);
    } else if (layout < LAYOUT) {
        result =
            mb_fail(err, MB_ENODATA, "%.200s: empty; membound machine --measure fills it", path);
    } else {
        code = sqlite3_prepare_v2(db, sql, -1, &query, NULL);
        if (code == SQLITE_OK)
            code = sqlite3_bind_text(query, 1, machine->fingerprint, -1, SQLITE_STATIC);
        if (code == SQLITE_OK)
            code = sqlite3_step(query);
        const char *json = code == SQLITE_ROW ? (const char *)sqlite3_column_text(query, 0) : NULL;
        int n = json ? sqlite3_column_bytes(query, 0) : 0;
        if (code == SQLITE_DONE)
            result = mb_fail(
                err, MB_ENODATA,
                "%.200s: nothing measured on this machine; membound machine --measure does it",
                path);
        else if (!json || n > MAX_JSON_BYTES)
            result = mb_fail(err, MB_EIO, "%.200s: %s; measuring again begins a new one", path,
                             code == SQLITE_ROW ? "a strange row" : sqlite3_errstr(code));
        else
            result = take(path, json, (size_t)n, machine, err);
    }
    sqlite3_finalize(query);
    sqlite3_close(db);
    return result;
}

/* Run a statement with n_texts texts bound. */
static int run(sqlite3 *db, const char *sql, const char *const *texts, int n_texts)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    for (int i = 0; i < n_texts && code == SQLITE_OK; i++)
        code = sqlite3_bind_text(statement, i + 1, texts[i], -1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    sqlite3_finalize(statement);
    return code == SQLITE_DONE || code == SQLITE_ROW ? SQLITE_OK : code;
}

/* Add a row and keep the newest hundred of the machine; SQLite's code, or LAYOUT_NEWER. One
 * transaction: a killed program or a full disk leaves the old file. */
static int add_row(const char *path, const char *const texts[4])
{
    sqlite3 *db;
    int code = open_database(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);
    int layout = code == SQLITE_OK ? layout_of(db, &code) : -1;
    if (layout > LAYOUT) {
        code = LAYOUT_NEWER;
    } else if (layout >= 0) {
        code = run(db, "BEGIN IMMEDIATE", NULL, 0);
        if (code == SQLITE_OK)
            code = sqlite3_exec(
                db,
                "CREATE TABLE IF NOT EXISTS measurements(fingerprint TEXT NOT NULL, date TEXT NOT NULL, "
                "version TEXT NOT NULL, json TEXT NOT NULL);"
                "CREATE INDEX IF NOT EXISTS by_machine ON measurements(fingerprint, date);"
                "PRAGMA user_version = 1",
                NULL, NULL, NULL);
        if (code == SQLITE_OK)
            code = run(
                db,
                "INSERT INTO measurements(fingerprint, date, version, json) VALUES(?1, ?2, ?3, ?4)",
                texts, 4);
        if (code == SQLITE_OK)
            code = run(
                db,
                "DELETE FROM measurements WHERE fingerprint = ?1 AND rowid NOT IN (SELECT rowid FROM measurements "
                "WHERE fingerprint = ?1 ORDER BY date DESC, rowid DESC LIMIT 100)",
                texts, 1);
        if (code == SQLITE_OK)
            code = run(db, "COMMIT", NULL, 0);
    }
    sqlite3_close(db);
    return code;
}

/* Move a damaged file out of the way, its journals with it. */
static int move_aside(const char *path)
{
    static const char *const tails[] = {"-journal", "-wal", "-shm"};
    char from[PATH_MAX], to[PATH_MAX];
    if ((size_t)snprintf(to, sizeof to, "%s.corrupt", path) >= sizeof to || rename(path, to) != 0)
        return -1;
    for (size_t i = 0; i < MB_COUNT(tails); i++)
        if ((size_t)snprintf(from, sizeof from, "%s%s", path, tails[i]) < sizeof from)
            unlink(from);
    return 0;
}

int mb_history_save(const char *path, const struct mb_machine *machine, struct mb_err *err)
{
    const struct mb_measurement *measurement = machine->measurement;
    if (!measurement || !measurement->date || !machine->fingerprint)
        return mb_fail(err, MB_EINVAL, "history: nothing was measured; measure first");
    char *json = NULL;
    int result = mb_json_dump(mb_measurement_json(machine, measurement), &json, err);
    if (result)
        return result;
    const char *const texts[4] = {machine->fingerprint, measurement->date,
                                  measurement->version ? measurement->version : MB_VERSION, json};
    if (make_directory_of(path) != 0) {
        result = mb_fail(err, MB_EWRITE, "%.200s: %s; the measurement is not kept", path,
                         strerror(errno));
    } else {
        int code = add_row(path, texts);
        if (is_corrupt(code) && move_aside(path) == 0)
            code = add_row(path, texts);
        if (code == LAYOUT_NEWER)
            result =
                mb_fail(err, MB_EWRITE,
                        "%.200s: written by a newer membound; the measurement is not kept", path);
        else if (code != SQLITE_OK)
            result = mb_fail(err, MB_EWRITE, "%.200s: %s; the measurement is not kept", path,
                             sqlite3_errstr(code));
    }
    mb_text_free(json);
    return result;
}
