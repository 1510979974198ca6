/* SPDX-License-Identifier: MIT */
/* NOT_INLINE: one copy, although its callers would take it in.
 * FORGET: what has been loaded before is loaded again after it, which is cheap, instead of filling the registers or being
 * spilled. IN_MEMORY: a variable that stays in memory, so that FORGET counts for it too. INLINE: functions that must be
 * inlined, because their arguments are constants that select code, and vectors stay in registers. UNROLL: the loop after it
 * is unrolled, because its counter selects shifts. Under sanitizers neither is worth the minutes that instrumenting every
 * copy takes. */
#ifndef MB_INLINE_H
#define MB_INLINE_H

#define NOT_INLINE static __attribute__((noinline))

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MB_IS_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MB_IS_SANITIZED 1
#endif

#define FORGET           __asm__ volatile("" ::: "memory")
#define IN_MEMORY(object) __asm__ volatile("" ::"r"(&(object)) : "memory")

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
