//! What is found, what is not, and what must stay.

use proptest::prelude::*;

use super::*;

fn redactor(names: &str) -> Redactor {
    let wanted = names.split(',').flat_map(|name| named(name).expect(name));
    Redactor::new(wanted.map(|detector| (detector, Action::Mask)), Vec::new(), None)
}

fn all() -> Redactor {
    redactor("secrets,pci,healthcare")
}

fn apply(redactor: &Redactor, text: &str) -> String {
    let mut out = Vec::new();
    match redactor.apply(text.as_bytes(), &mut out) {
        Outcome::Clean => text.to_owned(),
        Outcome::Changed(_) => String::from_utf8_lossy(&out).into_owned(),
        Outcome::Dropped => "(dropped)".to_owned(),
    }
}

/// Each line is built from parts, so that no scanner takes this file for a leak.
fn check(cases: &[(String, &str)]) {
    let all = all();
    let wrong: Vec<String> = cases
        .iter()
        .map(|(text, expected)| (text, expected, apply(&all, text)))
        .filter(|(_, expected, found)| found != *expected)
        .map(|(text, expected, found)| format!("{text}\n  expected {expected}\n  found    {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn s(text: &str) -> String {
    text.to_owned()
}

#[test]
fn secrets_are_found() {
    let x20 = "Ab1".repeat(14);
    let jwt = ["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "dozjgNryP4J3jVmN"].join(".");
    check(&[
        (format!("key={}{}", "AKIA", "IOSFODNN7EXAMPLE"), "key=[key]"),
        (format!("using {}{x20} now", "ghp_"), "using [key] now"),
        (format!("url {}{x20}", "AIza"), "url [key]"),
        (format!("slack {}123456789012-abcdef", "xoxb-"), "slack [key]"),
        (format!("stripe {}4eC39HqLyjWDarjtT1zdp7dc.", "sk_live_"), "stripe [key]."),
        (format!("gitlab {}{x20}", "glpat-"), "gitlab [key]"),
        (format!("jwt {jwt} end"), "jwt [jwt] end"),
        (format!("Authorization: Bearer {jwt}"), "Authorization: [bearer]"),
        (s("authorization=\"Basic dXNlcjpwYXNz\" next"), "authorization=\"[bearer]\" next"),
        (s("got Bearer abc123def456 from client"), "got Bearer [bearer] from client"),
        (s("password=hunter2 user=bob"), "password=[password] user=bob"),
        (
            s(r#"{"user":"bob","password":"hunter2","n":1}"#),
            r#"{"user":"bob","password":"[password]","n":1}"#,
        ),
        (
            s(r#"{"user":"bob","db_password" : "a\"b,c d","n":1}"#),
            r#"{"user":"bob","db_password" : "[password]","n":1}"#,
        ),
        (
            s(r#"{"msg":"{\"password\":\"hunter2\"}"}"#),
            r#"{"msg":"{\"password\":\"[password]\"}"}"#,
        ),
        (s("DB_PASSWORD='x y z' DB_HOST=db"), "DB_PASSWORD='[password]' DB_HOST=db"),
        (s("password: hunter2"), "password: [password]"),
        (s("client_secret=abcdef&grant=x"), "client_secret=[password]&grant=x"),
        (s("aws_secret_access_key = abc/def+ghi"), "aws_secret_access_key = [password]"),
        (s("GET /?api_key=12ab34cd HTTP/1.1"), "GET /?api_key=[password] HTTP/1.1"),
        (s("postgres://app:s3cret@db:5432/shop"), "postgres://app:[url-password]@db:5432/shop"),
        (
            s("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nrest"),
            "[private-key]\nrest",
        ),
        (
            s(
                r#"{"private_key":"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"}"#,
            ),
            r#"{"private_key":"[private-key]\n"}"#,
        ),
        (s("-----BEGIN EC PRIVATE KEY-----\nMIIE cut off"), "[private-key]"),
    ]);
}

#[test]
fn secrets_in_other_shapes_are_found() {
    let x = "Ab1".repeat(10);
    check(&[
        (s("<password>hunter</password>"), "<password>[password]</password>"),
        (
            s("<wsse:Password Type=\"#Text\">hunter</wsse:Password>"),
            "<wsse:Password Type=\"#Text\">[password]</wsse:Password>",
        ),
        (s("mysql --password hunter shop"), "mysql --password [password] shop"),
        (s("mysql --password 'a b' shop"), "mysql --password '[password]' shop"),
        (s("curl -s -u bob:hunter https://x"), "curl -s -u bob:[password] https://x"),
        (s("DB_PASS=hunter2 x"), "DB_PASS=[password] x"),
        (s("{\"dbPass\":\"hunter\"}"), "{\"dbPass\":\"[password]\"}"),
        (
            s("private_key=abcd encryption_key=ef12"),
            "private_key=[password] encryption_key=[password]",
        ),
        (s("Cookie: a=b; session=c, d"), "Cookie: [bearer]"),
        (format!("GET /b?sv=1&sig={x}%3D&se=2"), "GET /b?sv=1&sig=[key]&se=2"),
        (format!("openai {}{x}", "sk-"), "openai [key]"),
        (s("{\"password\":[\"x1\", \"y,]\"],\"n\":1}"), "{\"password\":[\"[password]\"],\"n\":1}"),
        (s("{'password': b'hunter'}"), "{'password': b'[password]'}"),
        (s("cfg {Password:hunterdeer Host:db}"), "cfg {Password:[password] Host:db}"),
        (s("cfg {Host:db Password:hunterdeer}"), "cfg {Host:db Password:[password]}"),
        (s("secret_id=7f3a-11 role_id=x"), "secret_id=[password] role_id=x"),
        (s("password=$ecret99 x"), "password=[password] x"),
        (s("password=[x9!a x"), "password=[password] x"),
        (s("password=P4ss,rest x"), "password=[password] x"),
        (s("password=abc)rest, user=bob"), "password=[password], user=bob"),
        (s("(password=abc1,user=bob)"), "(password=[password],user=bob)"),
        (s("postgres://u:p@ss@h/x a@example.org"), "postgres://u:[url-password]@h/x [email]"),
    ]);
}

#[test]
fn people_in_other_shapes_are_found() {
    check(&[
        (s("%B4111111111111111^DOE/J^2512101?"), "%B[card]?"),
        (s(";4111111111111111=25121011000?"), ";[card]?"),
        (s("card-4111-1111-1111-1111"), "card-[card]"),
        (s("card-4111111111111111 x"), "card-[card] x"),
        (s("pan 4111111111111111.0, x"), "pan [card], x"),
        (s("GET /?user=bob%40example.com&x"), "GET /?user=[email]&x"),
        (
            s("PID|1||12345678^^^MRN||DOE^JOHN||19700101|M|||||||||||123456789"),
            "PID|1||[mrn]||DOE^JOHN||[birth-date]|M|||||||||||[ssn]",
        ),
        (
            s("{\"identifier\":[{\"system\":\"urn:mrn\",\"value\":\"12-A\"}],\"v\":1}"),
            "{\"identifier\":[{\"system\":\"urn:mrn\",\"value\":\"[mrn]\"}],\"v\":1}",
        ),
    ]);
    let text = "PID|1||12345678||DOE||19700101";
    assert_eq!(apply(&redactor("birth-date"), text), "PID|1||12345678||DOE||[birth-date]");
}

#[test]
fn people_are_found() {
    check(&[
        (s("card 4111 1111 1111 1111 ok"), "card [card] ok"),
        (s("card 4111-1111-1111-1111."), "card [card]."),
        (s("pan=5555555555554444,"), "pan=[card],"),
        (s("amex 3782 822463 10005"), "amex [card]"),
        (s("diners 30569309025904"), "diners [card]"),
        (s("cvv=123 \"cvc\":\"4567\""), "cvv=[card] \"cvc\":\"[card]\""),
        (s("mail bob.o'neil+x@mail.example.org now"), "mail bob.o'[email] now"),
        (s("<ann@example.com>, ann@exämple.com"), "<[email]>, ann@exämple.com"),
        (s("from 192.168.1.17:8080 via 10.0.0.1"), "from [ip]:8080 via [ip]"),
        (s("peer [2001:db8::8a2e:370:7334]:443"), "peer [[ip]]:443"),
        (s("fe80::1%eth0 joined"), "[ip]%eth0 joined"),
        (s("ssn 078-05-1120 given"), "ssn [ssn] given"),
        (s("SSN: 078051120"), "SSN: [ssn]"),
        (
            s("call +1 212-555-0123 or (212) 555-0123 or 212.555.0123"),
            "call [phone] or [phone] or [phone]",
        ),
        (s("tel +49 30 9018 2000"), "tel [phone]"),
        (s("phone=2125550123"), "phone=[phone]"),
        (s("MRN: 12345678, next"), "MRN: [mrn], next"),
        (s("Medical record number 00-12-3456 opened"), "Medical record number [mrn] opened"),
        (s(r#"{"patientId":"P1234567"}"#), r#"{"patientId":"[mrn]"}"#),
        (s("dob=1970-01-31 sex=f"), "dob=[birth-date] sex=f"),
        (s("Date of birth: 01/31/1970"), "Date of birth: [birth-date]"),
        (s(r#""birthDate":"1970-01-31""#), r#""birthDate":"[birth-date]""#),
        (s("born? DOB Jan 31, 1970 ok"), "born? DOB [birth-date] ok"),
    ]);
}

#[test]
fn what_only_looks_like_it_stays() {
    let lines = [
        "2026-11-20T14:51:32.123456789Z INFO started",
        "2026-11-20 14:51:32,123 took 1234567890123 ns",
        "ts=1795186292123456789 id=1795186292123",
        "request 550e8400-e29b-41d4-a716-446655440000 done",
        "commit 4111111111111111abcdef0123456789abcdef01",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "pod web-5d9c7b8f6d-x2x4z on node ip-node",
        "version 1.2.3.4 released, v10.20.30.40, Chrome/120.0.0.0",
        "nginx/1.25.3 go1.22.4 kernel 6.8.0-1021",
        "4111111111111112 fails the check of cards",
        "order 1234-5678-9012-3456",
        "0.4111111111111111 is a fraction",
        "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000 were never given",
        "12078-05-1120 is longer",
        "react@18.2.0 getty@tty1.service image@sha256 a@b",
        "std::io::Error a::b ::1 :: 14:51:32 aa:bb:cc:dd:ee:ff",
        "127.0.0.1 0.0.0.0 255.255.255.255 256.1.1.1 1.2.3",
        "password: required",
        "the password must be changed",
        "invalid token: expired",
        "secret \"my-tls\" not found, secretName: my-tls",
        "max_tokens=4096 total_tokens: 17 token_count=3",
        "password=*** token=[REDACTED] secret=${SECRET} password=\"\" password=null",
        "passwords were rotated",
        "Bearer authentication failed",
        "tokenizer loaded",
        "-----BEGIN CERTIFICATE-----",
        "eyJ is how JSON begins in base64",
        "task-1234 disk-5678",
        "patient room 12 is free",
        "birthday party",
        "phone is busy",
        "+0100 +12 -3 (200) 12 ms",
        "http://user@example/x",
        "--- PASS: TestShop (0.00s)",
        "pass=12 fail=3 bypass=yes compass=north passed=x",
        "pass: ok, passes: 3",
        "use --password to set it, --password-file x",
        "docker run -u 1000:1000 x",
        "<secretName>my-tls</secretName> <password/> <password></password>",
        "scope secret:read granted",
        "auth::token::validate failed",
        "secrets: {} tokens=[1,2] password=<none> token=<hidden>",
        "task-Ab1Ab1Ab1Ab1Ab1Ab1Ab1 sk-learn-is-a-long-name-of-one",
        "Set cookie: none, cookies=3",
        "&sigma=0.5&sig=1",
        "{\"identifier\":[\"a\"],\"value\":\"x\"}",
        "RAPID|1||12345678",
        "a-4111-1111-1111-1112 x",
        "password=$DB_PASS token=$(cat /x) secret={{ .x }}",
    ];
    check(&lines.map(|line| (s(line), line)));
}

#[test]
fn actions() {
    let key = HashKey::new(b"0123456789abcdef");
    assert!(HashKey::new(b"short").is_none());
    let hash = Redactor::new(
        [(Detector::Email, Action::Hash), (Detector::Card, Action::Hash)],
        Vec::new(),
        key,
    );
    let first = apply(&hash, "a@example.org");
    assert!(first.starts_with("[email:") && first.len() == "[email:]".len() + 16, "{first}");
    assert_eq!(first, apply(&hash, "A@Example.org"), "the same address");
    assert_ne!(first, apply(&hash, "b@example.org"));
    assert_eq!(apply(&hash, "4111111111111111"), apply(&hash, "4111 1111 1111 1111"));
    let other = Redactor::new(
        [(Detector::Email, Action::Hash)],
        Vec::new(),
        HashKey::new(b"another key of 16"),
    );
    assert_ne!(first, apply(&other, "a@example.org"), "another key");
    let none = Redactor::new([(Detector::Email, Action::Hash)], Vec::new(), None);
    assert_eq!(apply(&none, "a@example.org"), "[email]");
    let drop = Redactor::new([(Detector::Email, Action::Drop)], Vec::new(), None);
    assert_eq!(apply(&drop, "x a@example.org"), "(dropped)");
    assert_eq!(apply(&drop, "x"), "x");

    let stricter =
        hash.with(&[(Detector::Email, Action::Mask), (Detector::Card, Action::Hash)], &[]);
    assert_eq!(apply(&stricter, "a@example.org"), "[email]");
    let weaker = stricter.with(&[(Detector::Email, Action::Hash)], &[]);
    assert_eq!(apply(&weaker, "a@example.org"), "[email]", "more can only be stricter");
}

#[test]
fn own_patterns() {
    let rule = |name: &str, regex: &str| Rule {
        name: name.into(),
        regex: Regex::new(regex).expect("a pattern"),
        action: Action::Mask,
    };
    let rules = vec![rule("ticket", r"TCK-\d+"), rule("who", r"user=(\w+)")];
    let redactor = Redactor::new([(Detector::Email, Action::Mask)], rules, None);
    assert!(!redactor.is_idle() && Redactor::default().is_idle());
    assert_eq!(
        apply(&redactor, "TCK-12 of user=bob, TCK-13, b@example.org"),
        "[ticket] of user=[who], [ticket], [email]"
    );
}

#[test]
fn finds_that_overlap_go_as_one() {
    let rule = Rule {
        name: "wide".into(),
        regex: Regex::new("from .* now").expect("a pattern"),
        action: Action::Mask,
    };
    let redactor = Redactor::new([(Detector::Email, Action::Mask)], vec![rule], None);
    assert_eq!(apply(&redactor, "x from a@example.org now y"), "x [wide] y");
}

#[test]
fn a_long_run_of_numbers_is_looked_at_to_its_end() {
    let many = "17 23 ".repeat(500);
    let text = format!("{many}10.1.2.3 {many}4111 1111 1111 1111 {many}078-05-1120 {many}");
    let expected = format!("{many}[ip] {many}[card] {many}[ssn] {many}");
    assert_eq!(apply(&redactor("ip,card,ssn"), &text), expected);
}

/// Whatever somebody writes a lot of: the work grows with the length, and no more than that.
#[test]
fn long_lines_are_looked_at_once() {
    let parts = [
        "1 ",
        "1.",
        "1-",
        "eyJ",
        "eyJ-",
        "eyJaaaaaaaaaa.",
        "ghp_",
        "ghp_-",
        "password=",
        "token:",
        "token=\"",
        "token=1 ",
        "Bearer ",
        "Authorization: ",
        "a@",
        "@",
        "::",
        "a:",
        "patient ",
        "dob 1 ",
        "+1",
        "(1",
        "\\\"",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----END",
        "phone ",
        "4111 ",
    ];
    let all = all();
    let mut out = Vec::new();
    for part in parts {
        let _ = all.apply(part.repeat((64 << 10) / part.len()).as_bytes(), &mut out);
    }
}

fn luhn_of(mut digits: Vec<u8>) -> Vec<u8> {
    let last = digits.len() - 1;
    for check in 0..10 {
        digits[last] = check;
        if numbers::luhn(&digits) {
            break;
        }
    }
    digits
}

proptest! {
    #[test]
    fn no_bytes_panic_and_text_without_finds_is_as_it_was(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        head in prop_oneof![
            Just("password="), Just("\"token\":\""), Just("Bearer "), Just("eyJ"), Just("-----BEGIN "),
            Just("ssn "), Just("dob: "), Just("a@"), Just("::"), Just("+"), Just("("), Just("AKIA"), Just(""),
        ],
    ) {
        let text = [&bytes[..], head.as_bytes(), &bytes[..]].concat();
        let mut out = Vec::new();
        let _ = all().apply(&text, &mut out);
    }

    /// Wherever a card stands in a text, its digits do not come out.
    #[test]
    fn cards_are_found_wherever_they_stand(
        before in "[a-zA-Z ,:=\"]{0,40}", after in "[a-z ,\"]{0,20}",
        digits in proptest::collection::vec(0_u8..10, 15), shape in 0_usize..3,
    ) {
        let mut card = vec![4];
        card.extend(digits);
        let card: String = luhn_of(card).iter().map(|d| char::from(b'0' + d)).collect();
        let card = match shape {
            0 => card,
            1 => format!("{} {} {} {}", &card[..4], &card[4..8], &card[8..12], &card[12..]),
            _ => format!("{}-{}-{}-{}", &card[..4], &card[4..8], &card[8..12], &card[12..]),
        };
        let text = format!("{before} {card} {after}");
        let found = apply(&redactor("pci"), &text);
        prop_assert!(found.contains("[card]") && !found.contains(&card), "{} -> {}", text, found);
    }

    #[test]
    fn addresses_are_found_wherever_they_stand(
        before in "[a-zA-Z ,=\"]{0,30}", a in 1_u8..126, b in any::<u8>(), c in any::<u8>(), d in any::<u8>(),
        name in "[a-z]{1,10}", domain in "[a-z]{1,10}",
    ) {
        let text = format!("{before} {a}.{b}.{c}.{d} {name}@{domain}.example {a}:x");
        let found = apply(&redactor("ip,email"), &text);
        prop_assert!(found.ends_with(&format!("[ip] [email] {a}:x")), "{} -> {}", text, found);
    }

    #[test]
    fn social_security_numbers_are_found(area in 1_u32..900, group in 1_u32..100, serial in 1_u32..10_000, before in "[a-z ]{0,20}") {
        prop_assume!(area != 666);
        let text = format!("{before} {area:03}-{group:02}-{serial:04}, x");
        prop_assert_eq!(apply(&redactor("ssn"), &text), format!("{before} [ssn], x"));
    }

    #[test]
    fn hashes_of_equal_values_are_equal(name in "[a-z]{1,12}", other in "[a-z]{1,12}") {
        let key = HashKey::new(b"0123456789abcdef");
        let hash = Redactor::new([(Detector::Email, Action::Hash)], Vec::new(), key);
        let of = |name: &str| apply(&hash, &format!("{name}@example.org"));
        prop_assert_eq!(of(&name) == of(&other), name == other);
    }
}
