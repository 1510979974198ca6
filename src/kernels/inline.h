/* SPDX-License-Identifier: MIT */
/* INLINE: functions that must be inlined, because their arguments are constants that select code, and vectors stay in registers.
 * UNROLL: the loop after it is unrolled, because its counter selects shifts. Under sanitizers neither is worth the minutes that
 * instrumenting every copy takes. */
#ifndef MB_INLINE_H
#define MB_INLINE_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MB_IS_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MB_IS_SANITIZED 1
#endif

#if defined(MB_IS_SANITIZED)
#define INLINE static inline
#define UNROLL
#else
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif
#endif

#endif
