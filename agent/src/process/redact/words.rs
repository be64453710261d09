//! Words that give a secret away: one search for all of them, then a closer look at each.
//!
//! Words are written in up to three ways (`secret`, `Secret`, `SECRET`): a search without regard to
//! case would cost several times as much on every line.

use aho_corasick::packed;

use super::keys::{self, Form};
use super::named::{Value, named};
use super::{Detector, Find, shapes};

/// What is done where a word was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    detector: Detector,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A prefix of a provider's key.
    Provider(Form),
    /// The start of a token of three parts.
    Jwt,
    /// The start of a private key.
    PrivateKey,
    /// The word before a token.
    Bearer,
    /// A part of a name whose value is secret.
    Named(Value),
    /// `sk-` and letters of all kinds.
    Mixed,
    /// The signature of a URL.
    Signature,
    /// Before `-u name:password`.
    Curl,
    /// The start of a segment of HL7 about a patient.
    Hl7,
    /// A list of a resource's identifiers in FHIR.
    Fhir,
}

const fn form(min: usize) -> Kind {
    Kind::Provider(Form { min, capitals: false })
}

/// All words, with what they give away.
fn all() -> Vec<(&'static str, Word)> {
    let mut words = Vec::new();
    let mut add = |detector, kind, texts: &[&'static str]| {
        words.extend(texts.iter().map(|text| (*text, Word { detector, kind })));
    };
    add(Detector::PrivateKey, Kind::PrivateKey, &["-----BEGIN "]);
    let capitals = Kind::Provider(Form { min: 16, capitals: true });
    add(Detector::Key, capitals, &["AKIA", "ASIA"]);
    add(Detector::Key, form(30), &["AIza", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "npm_"]);
    add(
        Detector::Key,
        form(20),
        &[
            "github_pat_",
            "glpat-",
            "ya29.",
            "SG.",
            "dop_v1_",
            "hvs.",
            "sk-ant-",
            "sk-proj-",
            "pypi-",
        ],
    );
    add(Detector::Key, form(10), &["xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "xapp-"]);
    add(
        Detector::Key,
        form(16),
        &["sk_live_", "sk_test_", "rk_live_", "whsec_", "hooks.slack.com/services/"],
    );
    add(Detector::Key, Kind::Mixed, &["sk-"]);
    add(Detector::Key, Kind::Signature, &["?sig=", "&sig=", ";sig=", "u0026sig="]);
    add(Detector::Jwt, Kind::Jwt, &["eyJ"]);
    add(Detector::Bearer, Kind::Bearer, &["Bearer ", "bearer ", "BEARER "]);
    let header = Kind::Named(Value::Header);
    add(Detector::Bearer, header, &["uthorization", "UTHORIZATION"]);
    let password = Kind::Named(Value::Password);
    add(
        Detector::Password,
        password,
        &["passw", "Passw", "PASSW", "passphrase", "Passphrase", "PASSPHRASE"],
    );
    add(Detector::Password, password, &["pwd", "Pwd", "PWD", "secret", "Secret", "SECRET"]);
    add(Detector::Password, password, &["ccountKey"]);
    add(Detector::Password, Kind::Named(Value::Pass), &["pass", "Pass", "PASS"]);
    add(Detector::Password, Kind::Curl, &["curl "]);
    add(Detector::Bearer, Kind::Named(Value::Cookie), &["ookie", "OOKIE"]);
    let token = Kind::Named(Value::Token);
    add(Detector::Password, token, &["token", "Token", "TOKEN", "redential", "REDENTIAL"]);
    add(
        Detector::Password,
        token,
        &[
            "apikey", "apiKey", "ApiKey", "APIKEY", "api_key", "API_KEY", "api-key", "Api-Key",
            "API-Key",
        ],
    );
    add(
        Detector::Password,
        token,
        &[
            "rivate_key",
            "rivateKey",
            "RIVATE_KEY",
            "rivate-key",
            "ncryption_key",
            "ncryptionKey",
            "NCRYPTION_KEY",
            "ncryption-key",
        ],
    );
    add(Detector::Password, token, &["access_key", "accessKey", "AccessKey", "ACCESS_KEY"]);
    add(Detector::Card, Kind::Named(Value::Digits), &["cvv", "CVV", "cvc", "CVC"]);
    add(
        Detector::Ssn,
        Kind::Named(Value::Ssn),
        &["ssn", "SSN", "ocial security", "ocial Security", "ocialSecurity", "ocial_security"],
    );
    let number = Kind::Named(Value::Number);
    add(
        Detector::Mrn,
        number,
        &["mrn", "MRN", "edical record", "edical Record", "edicalRecord", "edical_record"],
    );
    add(
        Detector::Mrn,
        number,
        &["patient", "Patient", "PATIENT", "ember_id", "emberId", "ember ID", "eneficiary"],
    );
    // The first of them that is on finds what all are looking for.
    for detector in [Detector::Mrn, Detector::BirthDate, Detector::Ssn, Detector::Phone] {
        add(detector, Kind::Hl7, &["PID|"]);
    }
    add(Detector::Mrn, Kind::Fhir, &["identifier\"", "identifier\\\""]);
    add(Detector::BirthDate, Kind::Named(Value::Date), &["dob", "DOB", "birth", "Birth", "BIRTH"]);
    add(
        Detector::Phone,
        Kind::Named(Value::Phone),
        &["phone", "Phone", "PHONE", "fax", "Fax", "mobile", "Mobile"],
    );
    words
}

/// The search for the words of the detectors that are on.
pub(super) fn searcher(on: impl Fn(Detector) -> bool) -> Option<(packed::Searcher, Vec<Word>)> {
    let wanted: Vec<_> = all().into_iter().filter(|(_, word)| on(word.detector)).collect();
    let mut builder = packed::Config::new().heuristic_pattern_limits(false).builder();
    builder.extend(wanted.iter().map(|(text, _)| text));
    let searcher = builder.build()?;
    Some((searcher, wanted.into_iter().map(|(_, word)| word).collect()))
}

/// Looks closer at a word; up to where the text has been dealt with.
pub(super) fn look(
    word: &Word,
    text: &[u8],
    begin: usize,
    end: usize,
    finds: &mut Vec<Find>,
) -> usize {
    let found = match word.kind {
        Kind::Provider(form) => keys::provider(text, begin, end, form),
        Kind::Jwt => keys::jwt(text, begin),
        Kind::PrivateKey => keys::private_key(text, begin),
        Kind::Bearer => keys::bearer(text, begin, end),
        Kind::Mixed => keys::mixed(text, begin, end),
        Kind::Signature => keys::signature(text, end),
        Kind::Curl => shapes::curl(text, end),
        Kind::Hl7 => return shapes::hl7(text, begin, end, finds),
        Kind::Fhir => return shapes::fhir(text, end, finds),
        Kind::Named(value) => named(word.detector, value, text, begin, end),
    };
    // A token that is none is not looked at again from each of its middles.
    let passed = || if matches!(word.kind, Kind::Jwt) { keys::token_end(text, end) } else { end };
    // Between `curl` and the password may stand others.
    let found_end = |find: Find| if matches!(word.kind, Kind::Curl) { end } else { find.end };
    let done = found.map_or_else(passed, found_end);
    finds.extend(found);
    done
}
