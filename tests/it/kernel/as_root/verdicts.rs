//! The programs that deny, on frames by `BPF_PROG_TEST_RUN`.

use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader};
use sniffer_ebpf::deny::{PROGRAM_BRIDGE, PROGRAM_FROM_POD, PROGRAM_TO_POD};

static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../sniffer-ebpf/object/deny.o"));

fn load() -> Ebpf {
    let mut ebpf = EbpfLoader::new().load(OBJECT).expect("the kernel takes the programs");
    for name in [PROGRAM_FROM_POD, PROGRAM_BRIDGE, PROGRAM_TO_POD] {
        let program: &mut SchedClassifier =
            ebpf.program_mut(name).expect("a program").try_into().expect("its kind");
        let begin = std::time::Instant::now();
        program.load().expect("the verifier takes the program");
        let info = program.info().expect("info");
        println!("{name}: {:?} verified {:?} jited {:?} B", begin.elapsed(), info.verified_instruction_count(), info.size_jitted());
    }
    ebpf
}

#[test]
fn it_loads() {
    load();
}
