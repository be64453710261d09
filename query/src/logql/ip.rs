//! Addresses in text: `ip("10.0.0.0/8")`, one address, a network, or a range `a-b`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A set of addresses; both ends are in it and are of the same version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpSet {
    first: IpAddr,
    last: IpAddr,
}

impl IpSet {
    /// Reads an address, a network in CIDR notation or a range.
    ///
    /// # Errors
    /// The text for the user when the pattern is none of these.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let wrong = || format!("ip: invalid pattern: {pattern:?}");
        if let Some((first, last)) = pattern.split_once('-') {
            let first: IpAddr = first.trim().parse().map_err(|_| wrong())?;
            let last: IpAddr = last.trim().parse().map_err(|_| wrong())?;
            if first.is_ipv4() != last.is_ipv4() || last < first {
                return Err(wrong());
            }
            return Ok(Self { first, last });
        }
        if let Some((address, bits)) = pattern.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let bits: u32 = bits.parse().map_err(|_| wrong())?;
            return Self::network(address, bits).ok_or_else(wrong);
        }
        let only: IpAddr = pattern.parse().map_err(|_| wrong())?;
        Ok(Self { first: only, last: only })
    }

    fn network(address: IpAddr, bits: u32) -> Option<Self> {
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
                let first = address.to_bits() & mask;
                Some(Self {
                    first: IpAddr::V4(Ipv4Addr::from_bits(first)),
                    last: IpAddr::V4(Ipv4Addr::from_bits(first | !mask)),
                })
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits)?).unwrap_or(0);
                let first = address.to_bits() & mask;
                Some(Self {
                    first: IpAddr::V6(Ipv6Addr::from_bits(first)),
                    last: IpAddr::V6(Ipv6Addr::from_bits(first | !mask)),
                })
            }
        }
    }

    /// Whether an address of the set stands somewhere in the text.
    #[must_use]
    pub fn found_in(&self, text: &str) -> bool {
        let v4 = self.first.is_ipv4();
        let part = |c: char| {
            if v4 {
                c.is_ascii_digit() || c == '.'
            } else {
                c.is_ascii_hexdigit() || c == ':' || c == '.'
            }
        };
        text.split(|c: char| !part(c)).any(|word| {
            let word = word.trim_matches('.');
            let enough = if v4 { word.len() >= 7 } else { word.contains("::") || word.len() >= 15 };
            enough && word.parse::<IpAddr>().is_ok_and(|ip| self.contains(ip))
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        // `IpAddr` orders all of version 4 before version 6.
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_and_texts() {
        let cases = [
            ("192.168.1.0/24", "src 192.168.1.10 ok", true),
            ("192.168.1.0/24", "src=10.0.0.9:80", false),
            ("10.0.0.0/8", "client 10.0.0.7:80.", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("10.0.0.7", "10.0.0.70", false),
            ("192.168.1.1-192.168.1.9", "a 192.168.1.5", true),
            ("192.168.1.1-192.168.1.9", "a 192.168.1.10", false),
            ("2001:db8::/32", "peer 2001:db8::1 up", true),
            ("2001:db8::/32", "peer 2001:db9::1 up", false),
            ("::/0", "1.2.3.4", false),
        ];
        for (pattern, text, expected) in cases {
            let set = IpSet::parse(pattern).expect(pattern);
            assert_eq!(set.found_in(text), expected, "{pattern} in {text}");
        }
        for pattern in ["notanip", "10.0.0.0/33", "2.2.2.2-1.1.1.1", "1.1.1.1-::1", ""] {
            assert!(IpSet::parse(pattern).expect_err(pattern).starts_with("ip: invalid pattern"));
        }
    }

    proptest! {
        #[test]
        fn a_network_holds_what_shares_its_prefix(a in any::<u32>(), b in any::<u32>(), bits in 1..=32_u32) {
            let set = IpSet::parse(&format!("{}/{bits}", Ipv4Addr::from_bits(a))).expect("valid");
            let same = a >> (32 - bits) == b >> (32 - bits);
            prop_assert_eq!(set.found_in(&Ipv4Addr::from_bits(b).to_string()), same);
        }
    }
}
