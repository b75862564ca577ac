/* pause holds a pod's namespaces open, and does nothing else: there is one per pod, so its size
 * counts. As process 1 of a shared pid namespace it reaps what is orphaned there. SIGTERM and SIGINT
 * end it; no other signal is touched.
 *
 * It uses no C library: three system calls, no heap, no data, one page of stack.
 */

#if defined(__x86_64__)
#define SYS_rt_sigprocmask 14
#define SYS_rt_sigtimedwait 128
#define SYS_wait4 61
#define SYS_exit 60
#elif defined(__aarch64__)
#define SYS_rt_sigprocmask 135
#define SYS_rt_sigtimedwait 137
#define SYS_wait4 260
#define SYS_exit 93
#else
#error "pause: add this architecture's system call numbers"
#endif

#define SIGINT 2
#define SIGTERM 15
#define SIGCHLD 17
#define SIG_BLOCK 0
#define WNOHANG 1
#define BIT(signal) (1ul << ((signal)-1))

static long call(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
#else
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#endif
}

void _start(void)
{
	const unsigned long awaited = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGCHLD);
	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&awaited, 0, sizeof awaited);
	for (;;) {
		long signal = call(SYS_rt_sigtimedwait, (long)&awaited, 0, 0, sizeof awaited);
		if (signal == SIGINT || signal == SIGTERM)
			break;
		/* One SIGCHLD may stand for many children; an interrupted wait gives a negative number. */
		while (call(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
			;
	}
	call(SYS_exit, 0, 0, 0, 0);
	__builtin_unreachable();
}
