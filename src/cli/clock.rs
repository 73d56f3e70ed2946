//! A machine without a clock that runs on starts in 1970. Certificates made then would be worthless, and
//! those there are do not hold yet: nothing starts before the clock tells a time that can be true.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::server::auth::pki::Certificate;
use crate::supervisor::ClockWatch;

/// When this executable was built, in seconds since the epoch, less a day for clocks on local time.
const BUILT: &str = env!("KEDGE_BUILT");
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// It cannot be earlier, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Floor {
    time: SystemTime,
    because: String,
}

/// Where the reason of the wait stands, for `kedge status`.
pub fn waiting_file(data_dir: &Path) -> PathBuf {
    data_dir.join("waiting")
}

/// Waits until the clock tells a time that can be true; says so if it has to.
///
/// # Errors
/// The kernel gives no timer.
pub async fn plausible(data_dir: &Path) -> std::io::Result<()> {
    let floor = floor(data_dir, SystemTime::now());
    let file = waiting_file(data_dir);
    let (mut told, mut watch) = (false, ClockWatch::new(Some(floor.time))?);
    while let Some(text) = complaint(&floor, SystemTime::now()) {
        if !std::mem::replace(&mut told, true) {
            tracing::warn!("{text}");
            let _ = std::fs::create_dir_all(data_dir).and_then(|()| std::fs::write(&file, &text));
        }
        watch.changed().await?;
    }
    if told {
        tracing::info!("the clock of this machine has been set; going on");
    }
    let _ = std::fs::remove_file(file);
    Ok(())
}

/// What is to be said of a clock that tells `now`.
fn complaint(floor: &Floor, now: SystemTime) -> Option<String> {
    let show = |time: SystemTime| {
        Timestamp::try_from(time).map(|t| t.strftime("%F %T UTC").to_string()).unwrap_or_default()
    };
    (now < floor.time).then(|| {
        format!(
            "the clock of this machine says {}, but {} ({}): waiting until it is set, by NTP, by hand \
             (`date -s`) or by a hardware clock",
            show(now),
            floor.because,
            show(floor.time)
        )
    })
}

fn floor(data_dir: &Path, now: SystemTime) -> Floor {
    let built = BUILT.parse().map(Duration::from_secs).unwrap_or_default().saturating_sub(DAY);
    let mut floor = Floor { time: UNIX_EPOCH + built, because: "this executable was built later".into() };
    for path in certificates(&data_dir.join("server/tls")) {
        let read = std::fs::read_to_string(&path).ok().and_then(|pem| Certificate::parse(&pem).ok());
        // A certificate that is no certificate, or has ended, is others' affair.
        let Some(certificate) = read.filter(|c| c.not_after > now) else { continue };
        if certificate.not_before > floor.time {
            let because = format!("the certificate {} holds only from then on", path.display());
            floor = Floor { time: certificate.not_before, because };
        }
    }
    floor
}

fn certificates(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            all.extend(certificates(&path));
        } else if path.extension().is_some_and(|e| e == "crt") {
            all.push(path);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_certificate_or_the_build_is_the_floor() {
        let directory = tempfile::tempdir().expect("a directory");
        let tls = directory.path().join("server/tls/nested");
        std::fs::create_dir_all(&tls).expect("made");
        let now = SystemTime::now();
        let bare = floor(directory.path(), now);
        assert!(bare.time > UNIX_EPOCH + 20_000 * DAY && bare.time < now, "{bare:?}");
        assert_eq!(complaint(&bare, now), None);
        let told = complaint(&bare, UNIX_EPOCH).expect("a complaint");
        assert!(
            told.starts_with("the clock of this machine says 1970-01-01 00:00:00 UTC, but this executable"),
            "{told}"
        );
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new(vec!["a".to_owned()]).expect("parameters");
        parameters.not_before = (now + DAY).into();
        let pem = parameters.self_signed(&key).expect("a certificate").pem();
        std::fs::write(tls.join("a.crt"), pem).expect("written");
        std::fs::write(tls.join("b.crt"), "no certificate").expect("written");
        let later = floor(directory.path(), now);
        assert!(later.time > now && later.because.contains("a.crt"), "{later:?}");
    }
}
