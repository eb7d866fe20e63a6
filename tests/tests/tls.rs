//! Page servers and sources of lazy pages that show certificates, and ask for them.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Place, Program, Server, Source, Victim, assert_refused, has_lazy_memory, present, root,
    run, said, skip, steadily,
};
use orchestrator::image;
use orchestrator::memory::dirty::Method;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Somebody who signs certificates, and keeps all in a folder.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    next: u64,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Authority {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.join("ca.pem"), own.pem()).expect("written");
        Authority {
            folder,
            issuer: Issuer::new(params, key),
            next: 1,
        }
    }

    /// Signs a certificate that is valid until a year, and returns the options by which it is used.
    fn sign(&mut self, name: &str, until: i32) -> Vec<String> {
        let mut params = CertificateParams::new([name.to_string()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(self.next));
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let own = params.signed_by(&key, &self.issuer).expect("a certificate");
        let [cert, key_path] =
            ["cert", "key"].map(|what| self.folder.join(format!("{what}-{}.pem", self.next)));
        self.next += 1;
        std::fs::write(&cert, own.pem()).expect("written");
        std::fs::write(&key_path, key.serialize_pem()).expect("written");
        let path = |path: &Path| path.to_str().expect("UTF-8").to_string();
        vec![
            "--tls".into(),
            "--tls-cacert".into(),
            path(&self.folder.join("ca.pem")),
            "--tls-cert".into(),
            path(&cert),
            "--tls-key".into(),
            path(&key_path),
        ]
    }

    /// Revokes a certificate by its number; returns the option that tells of it.
    fn revoke(&self, number: u64) -> [String; 2] {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(number),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2200, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        let path = self.folder.join("crl.pem");
        std::fs::write(&path, list.pem().expect("PEM")).expect("written");
        ["--tls-cacrl".into(), path.to_str().expect("UTF-8").into()]
    }
}

const VALID: i32 = 2190;

fn words(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

fn start(name: &str, args: &[&str]) -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile(name, Link::Dynamic)?.start(args))
}

/// Rounds and the dump by TLS; the pages do not cross in the open.
#[test]
fn a_chain_goes_by_tls() {
    steadily(a_chain_goes_by_tls_once);
}

fn a_chain_goes_by_tls_once() {
    let Some(mut victim) = start("counter", &[]) else {
        return;
    };
    let mut authority = Authority::new(victim.folder(), "ca");
    let [ours, theirs] = [0; 2].map(|_| authority.sign("127.0.0.1", VALID));
    let [here, there, first, second] =
        ["here", "there", "1", "2"].map(|name| Images::new(&victim, name));
    let mut from_here = Vec::new();
    let mut from_there = Vec::new();
    if Method::of_this_kernel().is_some() {
        let server = Server::start(&second.0, &words(&theirs));
        let pid = victim.pid.to_string();
        let dir = first.0.to_str().expect("UTF-8");
        let args = [
            &["pre-dump", &pid, "-D", dir],
            &server.options()[..],
            &words(&ours),
        ]
        .concat();
        let output = run(&args);
        assert!(output.status.success(), "pre-dump: {}", said(&output));
        server.finish();
        from_here = vec!["--prev-images-dir", "../1"];
        from_there = vec!["--prev-images-dir", "../2"];
    }
    let server = Server::start(&there.0, &[&words(&theirs)[..], &from_there].concat());
    let options = [&server.options()[..], &words(&ours), &from_here].concat();
    here.dump(victim.pid, &options);
    server.finish();
    victim.reap();
    here.carry_over(&there);
    let set = image::read(&there.0).expect("images");
    assert_eq!(set.snapshot.parent_files.is_empty(), from_here.is_empty());
    there.restore();
    victim.check();
}

/// Whoever is not trusted gets nothing: one error on each side, and the program runs on.
#[test]
fn who_is_not_trusted_gets_nothing() {
    let Some(victim) = start("counter", &[]) else {
        return;
    };
    let mut authority = Authority::new(victim.folder(), "ca");
    let mut stranger = Authority::new(victim.folder(), "stranger");
    let good = authority.sign("127.0.0.1", VALID);
    let expired = authority.sign("127.0.0.1", 2001);
    let renamed = authority.sign("elsewhere", VALID);
    let revoked = authority.sign("127.0.0.1", VALID);
    let list = authority.revoke(4);
    let foreign = stranger.sign("127.0.0.1", VALID);
    let with_list = [&good[..], &list].concat();
    // What the client has, what the server has, what the dump says, what the server says.
    let plain: Vec<String> = Vec::new();
    let cases: [(&[String], &[String], &str, &str); 9] = [
        (&good, &foreign, "not trusted", "does not trust us"),
        (&foreign, &good, "not trusted", "does not trust us"),
        (&expired, &good, "does not trust us", "expired"),
        (&good, &expired, "expired", "does not trust us"),
        (&revoked, &with_list, "does not trust us", "revoked"),
        (&with_list, &revoked, "revoked", "does not trust us"),
        (&good, &renamed, "not valid for", "does not trust us"),
        (&plain, &good, "--tls", "--tls"),
        (&good, &plain, "--tls", "--tls"),
    ];
    for (number, (client, server, word, other)) in cases.into_iter().enumerate() {
        let [here, there] =
            ["here", "there"].map(|name| Images::new(&victim, &format!("{name}-{number}")));
        let server = Server::start(&there.0, &words(server));
        let options = [&server.options()[..], &words(client)].concat();
        let output = here.try_dump(victim.pid, &options);
        assert_refused(&output, &[word, "untouched"]);
        let (done, said) = server.end();
        assert!(
            !done && said.contains(other),
            "case {number}: {other:?} wanted: {said}"
        );
        assert_eq!(said.lines().count(), 1, "case {number}: {said}");
        for images in [&here, &there] {
            let left = std::fs::read_dir(&images.0).expect("a folder").count();
            assert_eq!(left, 0, "case {number}");
        }
    }
    victim.assert_free();
    victim.check();
}

/// The name is nobody's business where that is said; files that are missing or say nothing are errors before all else.
#[test]
fn names_and_files() {
    steadily(names_and_files_once);
}

fn names_and_files_once() {
    let Some(mut victim) = start("counter", &[]) else {
        return;
    };
    let mut authority = Authority::new(victim.folder(), "ca");
    let [good, renamed] = ["127.0.0.1", "elsewhere"].map(|name| authority.sign(name, VALID));
    let [here, there] = ["here", "there"].map(|name| Images::new(&victim, name));
    for (option, word) in [
        ("--tls-cacert", "authority"),
        ("--tls-cert", "certificate"),
        ("--tls-key", "key"),
    ] {
        for path in ["/nowhere/at-all.pem", "/dev/null"] {
            let more = [
                &["--page-server", "--port", "9"][..],
                &words(&good),
                &[option, path],
            ]
            .concat();
            let output = here.try_dump(victim.pid, &more);
            assert_refused(&output, &[word, path]);
        }
    }
    let server = Server::start(&there.0, &words(&renamed));
    let options = [
        &server.options()[..],
        &words(&good),
        &["--tls-no-cn-verify"],
    ]
    .concat();
    here.dump(victim.pid, &options);
    server.finish();
    victim.reap();
    here.carry_over(&there);
    there.restore();
    victim.check();
}

/// A link that breaks in the middle, and somebody who sends anything, by TLS or in the open.
#[test]
fn broken_links_are_one_error() {
    if !root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut authority = Authority::new(folder.path(), "ca");
    let options = authority.sign("127.0.0.1", VALID);
    let garbage: Vec<u8> = (0..5000u32).map(|at| (at * 7 + at / 256) as u8).collect();
    let starts: [&[u8]; 3] = [&[], &[0x16, 3, 1, 2, 0, 1], &garbage];
    for (number, bytes) in starts.into_iter().enumerate() {
        let images = folder.path().join(number.to_string());
        std::fs::create_dir(&images).expect("a folder");
        let server = Server::start(&images, &words(&options));
        let mut client = server.client();
        // It may be gone before all is sent.
        let _ = client.write_all(bytes);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
        let (done, said) = server.end();
        assert!(!done && said.contains("client"), "case {number}: {said}");
        assert_eq!(said.lines().count(), 1, "case {number}: {said}");
        assert_eq!(std::fs::read_dir(&images).expect("folder").count(), 0);
    }
}

/// Memory that comes by TLS from where it was dumped, and nobody who is not trusted gets any of it.
#[test]
fn lazy_memory_comes_by_tls() {
    if !has_lazy_memory() || !present("unshare") {
        return;
    }
    let Some(mut victim) = start("migrated", &[]) else {
        return;
    };
    let mut authority = Authority::new(victim.folder(), "ca");
    let mut stranger = Authority::new(victim.folder(), "stranger");
    let good = authority.sign("127.0.0.1", VALID);
    let foreign = stranger.sign("127.0.0.1", VALID);
    let here = Place::default();
    let refused = Images::new(&victim, "refused");
    let mut source = Source::start(&here, &victim, &refused, &words(&good));
    let dir = refused.0.to_str().expect("UTF-8");
    let reach = source.reach();
    let daemon = ["lazy-pages", "-D", dir, "--page-server"];
    let output = run(&[&daemon[..], &reach, &words(&foreign)].concat());
    assert_refused(&output, &["not trusted"]);
    assert_eq!(source.status(), Some(1));
    victim.assert_free();
    let images = Images::new(&victim, "images");
    let mut source = Source::start(&here, &victim, &images, &words(&good));
    let output = source.restore_with(&here, &victim, &images, &words(&good));
    source.assert_passed(&output, &victim);
    victim.reap();
}

/// A full disk of the server is told by TLS too.
#[test]
fn a_full_disk_is_told() {
    let Some(victim) = start("maps", &[]) else {
        return;
    };
    let mut authority = Authority::new(victim.folder(), "ca");
    let options = authority.sign("127.0.0.1", VALID);
    let [here, there] = ["here", "there"].map(|name| Images::new(&victim, name));
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(&there.0)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return skip("cannot mount");
    }
    let server = Server::start(&there.0, &words(&options));
    let output = here.try_dump(
        victim.pid,
        &[&server.options()[..], &words(&options)].concat(),
    );
    let (done, words) = server.end();
    let _ = std::process::Command::new("umount")
        .arg("-l")
        .arg(&there.0)
        .status();
    assert_refused(&output, &["No space left", "put back"]);
    assert!(!done && words.contains("No space left"), "{words}");
    victim.assert_free();
    victim.check();
}
