/* SPDX-License-Identifier: MIT */
/* A conversation and the text that a model reads for it. The text is made by the chat template of the model file, or by a
 * named built-in format where the file has none.
 *
 * A message is a JSON object: role ("system", "user", "assistant", "tool"), content (text), and what else the template
 * knows (tool_calls, reasoning_content). Models forget nothing between turns but what the template leaves out, so the
 * conversation is rendered whole each time, and the caller compares the tokens with those already in the KV cache. */
#ifndef MB_CHAT_H
#define MB_CHAT_H

#include "engine/template.h"

struct mb_gguf;
struct mb_chat;

/* What stands around a rendering. */
struct mb_chat_opts {
    int add_generation_prompt; /* end with the opening of the assistant's answer */
    const json_t *extra;       /* more variables: {"tools": [...], "enable_thinking": false}; may be NULL; they win over
                                * bos_token and eos_token but not over messages */
    struct mb_template_opts template_opts; /* bounds, and the local time; now = NULL: the clock is asked */
};

/* A chat format.
 *   name  in  "chatml", "llama2", "llama3", "gemma", "mistral", "phi3", "zephyr" or a template's own text (it holds "{{"
 *             or "{%")
 *   bos, eos  in  the texts of these tokens ("<s>"); NULL: the empty text
 *   out   out written only on MB_OK; free with mb_chat_free()
 * Returns MB_OK; MB_ENAME: no such format (err names them); what mb_template_parse() returns. */
int mb_chat_new(const char *name, const char *bos, const char *eos, struct mb_chat **out, struct mb_err *err);
/* The format of a model file: its tokenizer.chat_template, bos and eos from its tokenizer.
 * Returns as above; MB_ENODATA: the file has no template (err names the built-in formats). */
int mb_chat_open(const struct mb_gguf *gguf, struct mb_chat **out, struct mb_err *err);
void mb_chat_free(struct mb_chat *chat);

/* The built-in formats, by number; NULL after the last. */
const char *mb_chat_format(unsigned i);
/* Does the format use this variable ("tools", "enable_thinking")? */
int mb_chat_mentions(const struct mb_chat *chat, const char *variable);

/* Render any messages (an array of objects, at most 100000); the conversation kept in chat is not touched.
 *   text  out  terminated; free with mb_text_free(); written only on MB_OK
 *   n     out  may be NULL: its bytes
 * Returns MB_OK; MB_EINVAL: messages is no array of objects with a role; what mb_template_render() returns: a template that
 * refuses a conversation says so in err ("System role not supported"). */
int mb_chat_render(const struct mb_chat *chat, const json_t *messages, const struct mb_chat_opts *opts, char **text, size_t *n,
                   struct mb_err *err);

/* ---- a conversation over several turns ---- */

/* Append a message. _json takes its reference, even on failure. Returns MB_OK; MB_EINVAL: not UTF-8, or no object with a
 * role; MB_ERANGE: too many messages; MB_ENOMEM. */
int mb_chat_add(struct mb_chat *chat, const char *role, const char *content, struct mb_err *err);
int mb_chat_add_json(struct mb_chat *chat, json_t *message, struct mb_err *err);
/* The messages so far: borrowed, valid until the next call that changes them. */
const json_t *mb_chat_messages(const struct mb_chat *chat);
/* Drop all but the first n messages. */
void mb_chat_truncate(struct mb_chat *chat, size_t n);

/* Render the conversation and keep the text.
 *   text     out  [n] borrowed, terminated, valid until the next call
 *   n_same   out  bytes at its beginning that equal the text of the last call: what the model may still remember (0 the
 *                 first time; a cut inside a UTF-8 character is moved before it)
 * Returns as mb_chat_render(); after a failure the last text is kept. */
int mb_chat_next(struct mb_chat *chat, const struct mb_chat_opts *opts, const char **text, size_t *n, size_t *n_same,
                 struct mb_err *err);

#endif
