//! The programs. They run on both hooks of the pods' host-side veths (TCX, or clsact before kernel 6.6), copy what is
//! selected to the ring buffer, and return `TC_ACT_UNSPEC`, which is `TCX_NEXT`: whatever else is attached
//! there runs as if they were not. They change nothing of a packet.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The helpers of the kernel are unsafe functions; the verifier checks what the compiler cannot.
#![allow(unsafe_code)]

#[cfg(target_arch = "bpf")]
mod capture;
#[cfg(target_arch = "bpf")]
mod parse;

#[cfg(target_arch = "bpf")]
mod programs {
    #![allow(unreachable_pub)] // The macros need it; the loader finds the programs by their symbols.

    use aya_ebpf::bindings::TC_ACT_UNSPEC;
    use aya_ebpf::macros::classifier;
    use aya_ebpf::programs::TcContext;
    use sniffer_ebpf::Hook;

    /// [`sniffer_ebpf::PROGRAM_INGRESS`].
    #[classifier]
    pub fn fs_ingress(context: TcContext) -> i32 {
        crate::capture::packet(&context, Hook::Ingress);
        TC_ACT_UNSPEC
    }

    /// [`sniffer_ebpf::PROGRAM_EGRESS`].
    #[classifier]
    pub fn fs_egress(context: TcContext) -> i32 {
        crate::capture::packet(&context, Hook::Egress);
        TC_ACT_UNSPEC
    }

    /// Some helpers are for programs under the GPL; this one is also under the project's own licence.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        // Nothing here panics: the verifier would refuse this loop.
        loop {}
    }
}

/// On the host there is nothing to run; the workspace builds and lints all the same.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
