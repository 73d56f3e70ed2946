use super::*;
use nix::poll::{PollFd, PollTimeout, poll};
use std::os::fd::BorrowedFd;
use std::path::Path;

struct Fixture {
    dir: tempfile::TempDir,
    streams: Streams,
    stdin: File,
    stdout: Option<File>,
}

fn fixture(stdin_once: bool) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&dir.path().join("0.log"), 0, 0).unwrap();
    let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let ((in_read, in_write), (out_read, out_write), (err_read, _)) = (pipe(), pipe(), pipe());
    let streams = Streams::pipes(log, Some(in_write), out_read, err_read, stdin_once).unwrap();
    Fixture { dir, streams, stdin: unblock(in_read).unwrap(), stdout: Some(out_write.into()) }
}

/// Does what the shim's loop does until nothing is ready.
fn turn(streams: &mut Streams) {
    loop {
        let mut wanted = Vec::new();
        streams.wait_for(|fd, flags, token| wanted.push((fd, flags, token)));
        // The descriptors stay open for as long as `streams` is not touched.
        let ready: Vec<_> = wanted
            .iter()
            .filter_map(|(fd, flags, token)| {
                let file = format!("/proc/self/fd/{fd}");
                assert!(Path::new(&file).symlink_metadata().is_ok());
                let borrowed: BorrowedFd = sys::borrow(*fd);
                let mut fds = [PollFd::new(borrowed, *flags)];
                (poll(&mut fds, PollTimeout::ZERO).unwrap() > 0).then(|| (*token, fds[0].revents().unwrap()))
            })
            .collect();
        if ready.is_empty() {
            return;
        }
        for (token, events) in ready {
            streams.ready(token, events);
        }
    }
}

fn logged(f: &Fixture) -> String {
    let text = std::fs::read_to_string(f.dir.path().join("0.log")).unwrap();
    text.lines().map(|l| l.splitn(4, ' ').last().unwrap().to_string() + ";").collect()
}

#[test]
fn output_goes_to_the_log_and_to_clients() {
    let mut f = fixture(false);
    f.stdout.as_mut().unwrap().write_all(b"before\n").unwrap();
    turn(&mut f.streams);
    let [_, out, err] = f.streams.attach(false).unwrap();
    assert!(err.is_none(), "the errors had ended");
    f.stdout.as_mut().unwrap().write_all(b"after\nend").unwrap();
    f.stdout = None;
    turn(&mut f.streams);
    f.streams.finish();
    let mut text = String::new();
    File::from(out.unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "after\nend");
    assert_eq!(logged(&f), "before;after;end;");
}

#[test]
fn a_slow_client_holds_the_container_back_and_loses_nothing() {
    let mut f = fixture(false);
    let [_, out, _] = f.streams.attach(false).unwrap();
    let mut stdout = unblock(f.stdout.take().unwrap().into()).unwrap();
    let mut written = 0;
    let mut client = unblock(out.unwrap()).unwrap();
    // Writes until nothing fits any more: the shim has stopped reading.
    loop {
        match stdout.write(&vec![b'x'; 64 * 1024]) {
            Ok(n) => written += n,
            Err(e) => {
                assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
        turn(&mut f.streams);
        assert!(written < 4 * MAX_BEHIND, "memory is bounded");
    }
    assert!(written > MAX_BEHIND);
    drop(stdout);
    let (mut got, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        turn(&mut f.streams);
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
        }
    }
    assert_eq!(got, written);
}

#[test]
fn the_first_client_is_told_what_was_said_before_it_came() {
    for (once, first) in [(true, "early\nlate\n"), (false, "late\n")] {
        let mut f = fixture(once);
        f.stdout.as_mut().unwrap().write_all(b"early\n").unwrap();
        turn(&mut f.streams);
        let [_, out, _] = f.streams.attach(false).unwrap();
        let [_, second, _] = f.streams.attach(false).unwrap();
        f.stdout.as_mut().unwrap().write_all(b"late\n").unwrap();
        f.stdout = None;
        turn(&mut f.streams);
        f.streams.finish();
        for (end, wanted) in [(out, first), (second, "late\n")] {
            let mut text = String::new();
            File::from(end.unwrap()).read_to_string(&mut text).unwrap();
            assert_eq!(text, wanted, "{once}");
        }
    }
}

#[test]
fn a_client_that_left_is_forgotten() {
    let mut f = fixture(false);
    drop(f.streams.attach(true).unwrap());
    turn(&mut f.streams);
    assert!(f.streams.clients.is_empty());
}

#[test]
fn input_ends_after_the_first_client_if_asked() {
    for once in [false, true] {
        let mut f = fixture(once);
        let [input, out, _] = f.streams.attach(true).unwrap();
        File::from(input.unwrap()).write_all(b"typed").unwrap();
        turn(&mut f.streams);
        let mut buffer = [0; 16];
        assert_eq!(f.stdin.read(&mut buffer).unwrap(), 5);
        let more = f.stdin.read(&mut buffer);
        assert_eq!(more.ok(), once.then_some(0), "end of file only with stdin_once");
        // Whose input ended is let go unless that ends the container's.
        let left = unblock(out.unwrap()).unwrap().read(&mut buffer);
        assert_eq!(left.ok(), (!once).then_some(0));
    }
}

#[test]
fn who_only_listens_does_not_end_the_input() {
    let mut f = fixture(true);
    let [input, out, _] = f.streams.attach(false).unwrap();
    assert!(input.is_none());
    drop(out);
    turn(&mut f.streams);
    assert!(f.stdin.read(&mut [0; 16]).is_err(), "still open");
}
