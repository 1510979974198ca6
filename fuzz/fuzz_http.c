/* SPDX-License-Identifier: MIT */
/* Any bytes as the head of an HTTP reply, line by line as libcurl hands it over. */
#include "model/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mb_http_head head = {0};
    while (n) {
        const uint8_t *end = memchr(data, '\n', n);
        size_t line_n = end ? (size_t)(end - data) + 1 : n;
        char *line = malloc(line_n);
        if (!line)
            return 0;
        memcpy(line, data, line_n);
        int code = mb_http_head_line(&head, line, line_n);
        free(line);
        if (code)
            return 0;
        data += line_n;
        n -= line_n;
        if (!head.bad && head.has_range &&
            (head.range_first > head.range_last || head.range_total <= head.range_last))
            abort();
        if (strlen(head.etag) >= sizeof head.etag || head.status > 999)
            abort();
    }
    return 0;
}
