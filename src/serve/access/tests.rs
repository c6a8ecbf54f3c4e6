use super::*;

fn access(listen: &str, config: &AccessConfig) -> (tempfile::TempDir, Access) {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::new(dir.path(), listen.parse().unwrap(), config).unwrap();
    (dir, access)
}

#[test]
fn loopback_needs_no_password_and_every_other_address_does() {
    let usual = AccessConfig::default();
    let (_dir, local) = access("127.0.0.1:80", &usual);
    assert!(!local.takes_password() && local.first_password().unwrap().is_none());
    assert_eq!(local.caller(None, None).unwrap().scopes, Scope::all());
    for listen in ["0.0.0.0:80", "[::]:80", "192.168.1.2:80"] {
        let (_dir, access) = access(listen, &usual);
        assert!(access.takes_password());
        assert_eq!(access.caller(None, None), None);
        assert_eq!(access.caller(Some("made up"), None), None);
        assert_eq!(access.caller(None, Some("made up")), None);
    }
    let proxied = AccessConfig {
        behind_proxy: true,
        ..AccessConfig::default()
    };
    let (_dir, behind) = access("127.0.0.1:80", &proxied);
    assert!(
        behind.takes_password(),
        "all the world comes from this machine then"
    );
}

#[test]
fn the_password_is_said_once_and_kept_unreadable_and_begins_a_session() {
    let (dir, access) = access("0.0.0.0:80", &AccessConfig::default());
    let password = access.first_password().unwrap().unwrap();
    assert_eq!(access.first_password().unwrap(), None);
    let kept = std::fs::read_to_string(dir.path().join("serve/password")).unwrap();
    assert!(
        kept.starts_with("$argon2id$") && !kept.contains(&password),
        "{kept}"
    );
    let from: IpAddr = "10.0.0.9".parse().unwrap();
    assert_eq!(access.sign_in("wrong", from), Err(None));
    let session = access.sign_in(&password, from).unwrap();
    let caller = access.caller(Some(&session.cookie), None).unwrap();
    assert_eq!(caller.who, "page");
    access.sign_out(&session.cookie);
    assert_eq!(access.caller(Some(&session.cookie), None), None);

    // Set anew by another process: whoever is in is out.
    let session = access.sign_in(&password, from).unwrap();
    let other = PasswordFile::open(&dir.path().join("serve")).unwrap();
    assert!(matches!(other.set("short"), Err(AccessError::Short)));
    other.set("quite another one").unwrap();
    access.reload().unwrap();
    assert_eq!(access.caller(Some(&session.cookie), None), None);
    assert!(access.sign_in("quite another one", from).is_ok());
}

#[test]
fn tokens_may_do_what_they_were_made_for_and_end() {
    let (dir, access) = access("0.0.0.0:80", &AccessConfig::default());
    let text = access.tokens().add("ha", [Scope::Read].into()).unwrap();
    let kept = std::fs::read_to_string(dir.path().join("serve/tokens.json")).unwrap();
    assert!(!kept.contains(&text[9..]));
    let caller = access.caller(None, Some(&text)).unwrap();
    assert_eq!(
        (caller.who.as_str(), caller.scopes),
        ("ha", [Scope::Read].into())
    );
    for (name, scopes) in [
        ("ha", vec![Scope::Read]),
        ("a/b", vec![Scope::Read]),
        ("c", vec![]),
    ] {
        assert!(
            access
                .tokens()
                .add(name, scopes.into_iter().collect())
                .is_err(),
            "{name}"
        );
    }
    assert!(access.tokens().remove("ha").unwrap() && !access.tokens().remove("ha").unwrap());
    assert_eq!(access.caller(None, Some(&text)), None);
}

#[test]
fn guessing_is_slowed_down_for_each_address_and_for_all() {
    let mut attempts = Attempts::default();
    let address = |last: u8| IpAddr::from([10, 0, 0, last]);
    let begin = Instant::now();
    for _ in 0..5 {
        attempts.may(address(1), begin).unwrap();
        attempts.failed(address(1), begin);
    }
    let Wait(wait) = attempts.may(address(1), begin).unwrap_err();
    assert_eq!(wait, Duration::from_secs(30));
    attempts.may(address(2), begin).unwrap();
    let later = begin + Duration::from_secs(31);
    attempts.may(address(1), later).unwrap();
    attempts.failed(address(1), later);
    assert_eq!(
        attempts.may(address(1), later),
        Err(Wait(Duration::from_secs(60)))
    );
    attempts.succeeded(address(1));
    attempts.may(address(1), later).unwrap();
    for last in 10..40 {
        attempts.failed(address(last), later);
    }
    assert!(
        attempts.may(address(99), later).is_err(),
        "too many together"
    );
    let a: IpAddr = "2001:db8::1".parse().unwrap();
    let b: IpAddr = "2001:db8::2".parse().unwrap();
    let much_later = later + Duration::from_secs(7200);
    (0..6).for_each(|_| attempts.failed(a, much_later));
    assert!(attempts.may(b, much_later).is_err(), "one network");
}

#[test]
fn only_names_of_this_machine_are_answered() {
    let local = Hosts::new(true, &["box.example".to_owned()]);
    for host in [
        "localhost",
        "localhost:8080",
        "127.0.0.1:1",
        "[::1]:8080",
        "box.example:443",
        "LOCALHOST.",
    ] {
        assert!(local.knows(host), "{host}");
    }
    for host in [
        "evil.example",
        "192.168.1.2",
        "127.0.0.1.evil.example",
        "",
        ":80",
        "localhost:80:80",
    ] {
        assert!(!local.knows(host), "{host}");
    }
    let wide = Hosts::new(false, &[]);
    assert!(wide.knows("192.168.1.2:8080") && wide.knows("[fe80::1]:8080"));
    assert!(!wide.knows("evil.example"));
}

#[test]
fn a_proxy_on_this_machine_says_for_whom_it_asks_and_nobody_else_does() {
    let config = AccessConfig {
        behind_proxy: true,
        ..AccessConfig::default()
    };
    let (_dir, access) = access("127.0.0.1:80", &config);
    let local: IpAddr = "127.0.0.1".parse().unwrap();
    let other: IpAddr = "10.0.0.5".parse().unwrap();
    assert_eq!(access.origin(local, Some("1.2.3.4, 10.0.0.5")), other);
    assert_eq!(access.origin(other, Some("1.2.3.4")), other);
    assert_eq!(access.origin(local, Some("nonsense")), local);
}

#[test]
fn the_log_is_added_to_and_for_this_account_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("serve");
    let entry = |who| Entry {
        at: 1.5,
        who,
        from: "10.0.0.1".into(),
        did: "PUT /api/v1/cameras/a",
        status: 200,
    };
    Audit::new(&folder).add(&entry("page")).unwrap();
    Audit::new(&folder).add(&entry("ha")).unwrap();
    let text = std::fs::read_to_string(folder.join("audit.log")).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(
        text.starts_with(r#"{"at":1.5,"who":"page","from":"10.0.0.1","did":"PUT"#),
        "{text}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&folder), mode(&folder.join("audit.log"))),
            (0o700, 0o600)
        );
    }
}

/// Whoever is not known could push every change out of the log within a second.
#[test]
fn what_strangers_try_is_cut_and_kept_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::new(dir.path());
    let long = format!("POST /{}", "\u{e9}".repeat(9000));
    for (who, status) in [("nobody", 401), ("nobody", 200), ("page", 403)] {
        let entry = Entry {
            at: 1.0,
            who,
            from: "10.0.0.1".into(),
            did: &long,
            status,
        };
        audit.add(&entry).unwrap();
    }
    let lines = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(lines("audit.log").lines().count(), 2);
    let refused = lines("refused.log");
    assert!(
        refused.lines().count() == 1 && refused.len() < 400,
        "{refused}"
    );
}

#[test]
fn a_token_that_another_process_makes_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (page, command) = (
        TokenFile::open(dir.path()).unwrap(),
        TokenFile::open(dir.path()).unwrap(),
    );
    let made = command.add("home", [Scope::Read].into()).unwrap();
    let other = page.add("other", [Scope::Read].into()).unwrap();
    assert!(page.find(&made).is_some());
    assert!(command.remove("other").unwrap());
    page.reload().unwrap();
    assert!(page.find(&made).is_some() && page.find(&other).is_none());
}

#[test]
fn whoever_may_not_come_in_any_more_is_not_left_inside() {
    let (_dir, access) = access("0.0.0.0:80", &AccessConfig::default());
    let password = access.first_password().unwrap().unwrap();
    let text = access.tokens().add("ha", [Scope::Read].into()).unwrap();
    let session = access.sign_in(&password, "10.0.0.9".parse().unwrap());
    let session = session.unwrap().cookie;
    let page = access.caller(Some(&session), None).unwrap();
    let token = access.caller(None, Some(&text)).unwrap();
    assert!(access.still_admits(&page) && access.still_admits(&token));
    access.sign_out(&session);
    access.tokens().remove("ha").unwrap();
    assert!(!access.still_admits(&page) && !access.still_admits(&token));
}

#[test]
fn the_browser_is_told_now_and_then_that_a_session_in_use_goes_on() {
    let lasts = Duration::from_secs(40);
    let sessions = Sessions::new(lasts);
    let id = sessions.find(&sessions.begin().unwrap().cookie).unwrap();
    assert_eq!(sessions.renewed(&id), None, "it has just been told");
    std::thread::sleep(lasts / 20);
    assert_eq!(sessions.renewed(&id), Some(lasts));
    assert_eq!(sessions.renewed(&id), None);
}
