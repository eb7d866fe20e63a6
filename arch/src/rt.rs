//! The runtime of a blob, as a macro that only the blobs' `main.rs` expand. Were these functions in the crate itself, the
//! host would link them too, and its `memcpy` would be our short one instead of the C library's fast one.

/// Defines what `core` and compiled code expect of a C runtime: the memory functions (`compiler_builtins` of the
/// linux-gnu target has none), a panic handler, and the two names of the unwinder that the prebuilt `core` refers to.
///
/// A panic is a bug of the blob: it traps (SIGILL at the very place), which the orchestrator sees as its tracer or its
/// parent. No message is formatted, which keeps the formatter and its tables out of the blob.
#[macro_export]
macro_rules! blob_runtime {
    () => {
        #[panic_handler]
        fn panic(_: &::core::panic::PanicInfo<'_>) -> ! {
            $crate::native::rt::trap()
        }

        /// Named by the prebuilt `core`, which unwinds; nothing in a blob does.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() -> ! {
            $crate::native::rt::trap()
        }

        /// As above.
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() -> ! {
            $crate::native::rt::trap()
        }

        $crate::memory_functions! { #[unsafe(no_mangle)] }
    };
}
