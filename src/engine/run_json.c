/* SPDX-License-Identifier: MIT */
/* One answer as JSON. */
#include "base/base.h"

#include <jansson.h>
#include <stdlib.h>

static double rate_of(double count, double seconds)
{
    return seconds > 0 ? count / seconds : 0;
}

static json_t *known(double value)
{
    return value > 0 ? json_real(value) : json_null();
}

static json_t *prefill_json(const struct mb_written *written)
{
    size_t n = written->n_prompt - written->n_reused;
    return json_pack("{s:I, s:I, s:f, s:f}", "tokens", (json_int_t)n, "reused_tokens", (json_int_t)written->n_reused, "seconds",
                     written->prefill_s, "tokens_per_s", rate_of((double)n, written->prefill_s));
}

static json_t *decode_json(const struct mb_run_report *report)
{
    const struct mb_written *written = report->written;
    double bytes_per_s = rate_of(written->decode_bytes, written->decode_s);
    double bound = report->bound_bytes_per_s;
    return json_pack("{s:I, s:I, s:f, s:o, s:o, s:o, s:o, s:o}", "tokens", (json_int_t)written->n_decoded, "written_tokens",
                     (json_int_t)written->n_written, "seconds", written->decode_s, "tokens_per_s",
                     known(rate_of((double)written->n_decoded, written->decode_s)), "bytes_per_token",
                     known(rate_of(written->decode_bytes, (double)written->n_decoded)), "bytes_per_s", known(bytes_per_s),
                     "bound_bytes_per_s", known(bound), "fraction_of_bound", known(bound > 0 ? bytes_per_s / bound : 0));
}

static json_t *load_json(const struct mb_run_report *report, const struct mb_session_info *session)
{
    static const char *const names[] = {"map", "copy", "synthetic", "behind"};
    return json_pack("{s:s, s:s, s:I, s:I, s:o}", "way", names[report->load], "why", report->load_why, "behind_bytes",
                     (json_int_t)session->behind_bytes, "behind_done_bytes", (json_int_t)session->behind_done_bytes, "behind_s",
                     known(session->behind_s));
}

int mb_run_json(const struct mb_run_report *report, char **out, struct mb_err *err)
{
    struct mb_model_info info;
    struct mb_session_info session;
    mb_model_get_info(report->model, &info);
    mb_session_get_info(report->session, &session);
    const struct mb_speed *predicted = &report->predicted;
    json_t *text = json_stringn(report->text, report->text_n);
    if (!text)
        return mb_fail(err, MB_EINVAL, "the text of the answer is no UTF-8, or memory is short; leave the JSON out");
    json_t *root = json_pack("{s:s, s:s?, s:s, s:I, s:I, s:o, s:s, s:f, s:o, s:o, s:o}", "model", info.name, "machine",
                             report->machine ? report->machine->name : NULL, "simd", session.simd, "threads",
                             (json_int_t)session.n_threads, "seed", (json_int_t)report->seed, "text", text, "stop",
                             mb_stop_name(report->written->stop), "load_s", report->load_s, "load",
                             load_json(report, &session), "prefill", prefill_json(report->written), "decode",
                             decode_json(report));
    int failed = !root || (predicted->tokens_per_s > 0
                               ? json_object_set_new(root, "predicted",
                                                     json_pack("{s:f, s:f, s:f}", "tokens_per_s", predicted->tokens_per_s, "low",
                                                               predicted->low, "high", predicted->high))
                               : json_object_set_new(root, "predicted", json_null())) != 0;
    *out = failed ? NULL : json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    return *out ? MB_OK : mb_fail(err, MB_ENOMEM, "no memory for the JSON of an answer");
}
