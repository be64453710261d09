//! What can be taken out, by name, and what is done with it.

/// One kind of thing that is found in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Detector {
    /// Private keys in PEM.
    PrivateKey,
    /// Keys and tokens that providers give, told by their form.
    Key,
    /// JSON web tokens.
    Jwt,
    /// Tokens behind `Bearer` and in `Authorization`.
    Bearer,
    /// Values of keys such as `password`, `secret`, `token`, `api_key`.
    Password,
    /// Passwords in URLs.
    UrlPassword,
    /// Numbers of payment cards, and their check codes when they are named.
    Card,
    /// Addresses of e-mail.
    Email,
    /// Addresses of IPv4 and IPv6.
    Ip,
    /// Social security numbers of the United States.
    Ssn,
    /// Medical record, patient and health plan numbers, when they are named.
    Mrn,
    /// Numbers of telephones.
    Phone,
    /// Dates of birth, when they are named.
    BirthDate,
}

impl Detector {
    /// All of them; the place of each is its number.
    pub const ALL: [Self; 13] = [
        Self::PrivateKey,
        Self::Key,
        Self::Jwt,
        Self::Bearer,
        Self::Password,
        Self::UrlPassword,
        Self::Card,
        Self::Email,
        Self::Ip,
        Self::Ssn,
        Self::Mrn,
        Self::Phone,
        Self::BirthDate,
    ];

    /// Its name in settings, and in place of what it found: `[card]`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PrivateKey => "private-key",
            Self::Key => "key",
            Self::Jwt => "jwt",
            Self::Bearer => "bearer",
            Self::Password => "password",
            Self::UrlPassword => "url-password",
            Self::Card => "card",
            Self::Email => "email",
            Self::Ip => "ip",
            Self::Ssn => "ssn",
            Self::Mrn => "mrn",
            Self::Phone => "phone",
            Self::BirthDate => "birth-date",
        }
    }
}

const SECRETS: [Detector; 6] = [
    Detector::PrivateKey,
    Detector::Key,
    Detector::Jwt,
    Detector::Bearer,
    Detector::Password,
    Detector::UrlPassword,
];
const HEALTHCARE: [Detector; 6] = [
    Detector::Email,
    Detector::Ip,
    Detector::Ssn,
    Detector::Mrn,
    Detector::Phone,
    Detector::BirthDate,
];

/// The detectors of a preset or of a detector's own name.
#[must_use]
pub fn named(name: &str) -> Option<Vec<Detector>> {
    match name {
        "secrets" => Some(SECRETS.to_vec()),
        "pci" => Some(vec![Detector::Card]),
        "healthcare" => Some(HEALTHCARE.to_vec()),
        _ => Detector::ALL.iter().find(|d| d.name() == name).map(|d| vec![*d]),
    }
}

/// All names that [`named`] knows.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let presets = ["secrets", "pci", "healthcare"];
    presets.into_iter().chain(Detector::ALL.iter().map(|d| d.name())).collect()
}

/// What is done with what was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Its name stands in its place.
    #[default]
    Mask,
    /// Its name and a keyed hash: equal values stay comparable.
    Hash,
    /// The whole record goes.
    Drop,
}

impl Action {
    /// The names in settings.
    pub const NAMES: [&'static str; 3] = ["mask", "hash", "drop"];

    /// The action of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Mask, Self::Hash, Self::Drop];
        Self::NAMES.iter().position(|known| *known == name).map(|at| all[at])
    }
}
