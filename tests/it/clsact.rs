//! Watching by clsact, as kernels before 6.6 need it: nothing is left behind, however the process ends, and what is
//! somebody else's stays. These tests take root: `cargo xtask test --only clsact`.

/// By this name `cargo xtask test` leaves them out where it runs the others.
mod as_root {
    use std::process::Command;

    use crate::command::{stderr, stdout};
    use crate::netns::{Namespace, Watch, run, until};

    const BY_CLSACT: [&str; 4] = ["--attach", "clsact", "--ring-size", "64KiB"];

    /// The names of fedisniff's filters on both hooks.
    fn ours(node: &Namespace) -> (usize, usize) {
        let count = |hook: &str, name: &str| {
            node.tc(&format!("filter show dev veth0 {hook}"))
                .matches(&format!(" {name} direct-action"))
                .count()
        };
        (count("ingress", "fs_ingress"), count("egress", "fs_egress"))
    }

    fn has_clsact(node: &Namespace) -> bool {
        node.tc("qdisc show dev veth0").contains("clsact")
    }

    /// A watch by clsact that has attached.
    fn watch(node: &Namespace) -> Watch {
        let watch = node.watch(&BY_CLSACT);
        assert!(has_clsact(node));
        watch
    }

    /// The process beside, which begins with the first attachment.
    fn beside(node: &Namespace, watches: &[&Watch]) -> u32 {
        let known: Vec<u32> = watches.iter().map(|watch| watch.process()).collect();
        let others: Vec<u32> = node.processes().into_iter().filter(|pid| !known.contains(pid)).collect();
        assert_eq!(others.len(), 1, "one beside {known:?}: {others:?}");
        others[0]
    }

    fn signal(process: u32, name: &str) {
        run(Command::new("kill").args([&format!("-{name}"), &process.to_string()]));
    }

    /// Both are killed before they can do anything.
    fn killed_with_the_process_beside(node: &Namespace) {
        let watch = watch(node);
        let beside = beside(node, &[&watch]);
        signal(beside, "KILL");
        watch.end("KILL");
        until("both are dead", || node.processes().is_empty());
        assert_eq!(ours(node), (1, 1), "nobody was left to remove them");
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only clsact`"]
    fn what_was_attached_goes_when_watching_ends() {
        for with in ["INT", "TERM"] {
            let node = Namespace::with_veth();
            let watch = watch(&node);
            assert_eq!(ours(&node), (1, 1));
            watch.end(with);
            assert!(!has_clsact(&node), "after {with}: {}", node.tc("qdisc show dev veth0"));
            assert_eq!(node.processes(), Vec::<u32>::new(), "the process beside ends with it");
        }
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only clsact`"]
    fn what_was_attached_goes_after_kill_9_also_when_the_process_beside_was_told_to_end() {
        let node = Namespace::with_veth();
        let watch = watch(&node);
        let beside = beside(&node, &[&watch]);
        for other in ["INT", "HUP", "TERM"] {
            signal(beside, other);
        }
        let group = |process: u32| run(Command::new("ps").args(["-o", "pgid=", "-p", &process.to_string()]));
        assert_ne!(group(beside), group(watch.process()), "Ctrl-C is for the watch alone");
        assert_eq!(ours(&node), (1, 1));
        watch.end("KILL");
        until("the qdisc is gone", || !has_clsact(&node));
        until("the process beside is gone", || node.processes().is_empty());
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only clsact`"]
    fn what_nobody_could_remove_is_told_by_doctor_and_goes_at_the_next_start_or_uninstall() {
        let node = Namespace::with_veth();
        killed_with_the_process_beside(&node);
        let told = stdout(&node.fedisniff(&["doctor"]));
        assert!(told.contains("warning  leftovers     filters on veth0"), "{told}");
        let next = node.watch(&["--attach", "tcx", "--ring-size", "64KiB"]);
        assert!(!has_clsact(&node));
        next.end("INT");

        killed_with_the_process_beside(&node);
        let output = node.fedisniff(&["uninstall"]);
        assert_eq!(stdout(&output), "Removed the filters on veth0.\n", "{}", stderr(&output));
        assert!(!has_clsact(&node));
        assert_eq!(
            stdout(&node.fedisniff(&["uninstall"])),
            "Nothing of fedisniff is in this node's kernel.\n"
        );
        let told = stdout(&node.fedisniff(&["doctor"]));
        assert!(told.contains("ok       leftovers"), "{told}");
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only clsact`"]
    fn what_is_somebody_elses_stays() {
        for end in ["INT", "KILL"] {
            // Theirs was there first, with a filter or still without one.
            for with_filter in [true, false] {
                let node = Namespace::with_veth();
                node.tc("qdisc add dev veth0 clsact");
                if with_filter {
                    node.foreign_filter("veth0", "ingress");
                }
                let before = node.tc("filter show dev veth0 ingress");
                let watch = watch(&node);
                assert_eq!(ours(&node), (1, 1));
                watch.end(end);
                until("ours are gone", || ours(&node) == (0, 0) && node.processes().is_empty());
                assert!(has_clsact(&node), "{end}: it was not made by fedisniff");
                assert_eq!(node.tc("filter show dev veth0 ingress"), before);
            }
            // Theirs came later, onto the qdisc that fedisniff has made.
            let node = Namespace::with_veth();
            let watch = watch(&node);
            node.foreign_filter("veth0", "egress");
            watch.end(end);
            until("ours are gone", || ours(&node) == (0, 0) && node.processes().is_empty());
            assert!(node.tc("filter show dev veth0 egress").contains("bpf"), "{end}: theirs is there");
            let output = node.fedisniff(&["uninstall"]);
            assert!(output.status.success() && has_clsact(&node), "{}", stderr(&output));
        }
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only clsact`"]
    fn two_watches_at_once_do_not_touch_each_others_and_the_last_one_tidies_up() {
        let node = Namespace::with_veth();
        let (first, second) = (watch(&node), watch(&node));
        assert_eq!(ours(&node), (2, 2), "the second start took none of the first for dead");
        // The first has made the qdisc, and goes first.
        first.end("KILL");
        until("only the second's are left", || ours(&node) == (1, 1));
        until("one process beside is left", || node.processes().len() == 2);
        let third = watch(&node);
        assert_eq!(ours(&node), (2, 2));
        third.end("INT");
        assert_eq!(ours(&node), (1, 1));
        let told = stdout(&node.fedisniff(&["doctor"]));
        assert!(told.contains("ok       leftovers"), "{told}");
        second.end("INT");
        assert!(!has_clsact(&node));
        assert_eq!(node.processes(), Vec::<u32>::new());
    }

    #[test]
    #[ignore = "takes root: `cargo xtask test --only clsact`"]
    fn packets_are_seen_by_clsact_and_an_ingress_qdisc_is_refused_with_what_to_do() {
        let node = Namespace::with_veth();
        node.ip("address add 10.9.0.1/24 dev veth0");
        let seen_by = watch(&node);
        // To an address that nobody has: each try asks for it on the wire, which the pod's end does not answer.
        run(node.command("bash").args(["-c", "echo > /dev/udp/10.9.0.2/9"]));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let summary = seen_by.end("INT");
        assert!(!summary.contains(" 0 packets seen"), "{summary}");

        node.tc("qdisc add dev veth0 ingress");
        let mut watch = node.command(crate::command::program().to_str().expect("UTF-8"));
        let mut watch = watch
            .arg("watch")
            .args(BY_CLSACT)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = std::io::BufReader::new(watch.stderr.take().expect("piped"));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).expect("a line");
        watch.kill().expect("kill");
        watch.wait().expect("its end");
        assert!(line.contains("cannot attach to veth0 by clsact"), "{line}");
        assert!(line.contains("tc qdisc del dev veth0 ingress"), "{line}");
        assert!(node.tc("qdisc show dev veth0").contains("ingress"), "it is still there");
    }
}
