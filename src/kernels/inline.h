/* SPDX-License-Identifier: MIT */
/* INLINE: functions that must be inlined, because their arguments are constants that select code, and vectors stay in registers.
 * NOT_INLINE: one copy, although its callers would take it in. UNROLL: the loop after it is unrolled, because its counter
 * selects shifts. ROLLED: it is not, because one copy of its body is enough. IN_MEMORY: a variable that stays in memory,
 * instead of filling the registers and being spilled. AFRESH: what a pointer points at is loaded anew, and does not fill the
 * registers from one turn of a loop to the next. IN_ORDER: a vector (of x86) is computed here, not later with others of its
 * kind. Under sanitizers none is worth the minutes that instrumenting every copy takes; MB_SMALL_CODE says so of other builds
 * where speed does not count. */
#ifndef MB_INLINE_H
#define MB_INLINE_H

#define NOT_INLINE static __attribute__((noinline))

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MB_SMALL_CODE 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MB_SMALL_CODE 1
#endif

#define IN_MEMORY(object) __asm__ volatile("" ::"r"(&(object)) : "memory")
#define AFRESH(pointer)   __asm__ volatile("" : "+r"(pointer))

#if defined(MB_SMALL_CODE)
#define IN_ORDER(vector) (void)(vector)
#define INLINE static inline
#define UNROLL
#define ROLLED
#else
#define IN_ORDER(vector) __asm__("" : "+v"(vector))
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("nounroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#define ROLLED _Pragma("GCC unroll 1")
#endif
#endif

#endif
