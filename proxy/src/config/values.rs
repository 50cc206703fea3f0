//! Texts that stand for something: durations, byte sizes, names, hosts, `${VAR}`. Each error says what is allowed.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::IntErrorKind;
use std::time::Duration;

/// Beyond it a deadline is a mistake, and arithmetic on it a hazard.
const LONGEST: Duration = Duration::from_secs(3_650 * 24 * 3_600);

/// `"250ms"`, `"30s"`, `"1h30m"`; ten years at the most. The error says what is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|_| "a duration is `250ms`, `30s`, `5m` or `1h30m`")?;
    if duration > LONGEST {
        return Err("a duration is ten years at the most".into());
    }
    Ok(duration)
}

/// `"64KiB"`, `"1GiB"`, `"10MB"`, `"1.5GiB"`, `"512"`: bytes. The error says what is allowed.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "a size is `64KiB`, `10MB`, `1.5GiB` or a number of bytes".to_owned();
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let total = scaled(number, unit).ok_or_else(wrong)?;
    let fits = u64::try_from(total).ok().filter(|total| i64::try_from(*total).is_ok());
    fits.ok_or_else(|| "that is too large: a size is less than 8388608TiB (8EiB)".into())
}

/// `number` times `unit`, exactly, rounded down to a byte; what is beyond all numbers is the largest one.
fn scaled(number: &str, unit: u64) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole = match whole.parse::<u64>() {
        Ok(whole) => whole,
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => return Some(u128::MAX),
        Err(_) => return None,
    };
    let mut total = u128::from(whole) * u128::from(unit);
    if number.contains('.') {
        let digits = u32::try_from(part.len()).ok().filter(|digits| (1..=9).contains(digits))?;
        let part: u128 = part.parse().ok()?;
        total += part * u128::from(unit) / 10_u128.pow(digits);
    }
    Some(total)
}

/// `IP:PORT` or `NAME:PORT`, where the name is looked up: of several addresses the lowest is taken, of IPv4 if there is one.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wanted = "an address is IP:PORT or NAME:PORT, such as 127.0.0.1:5000, [::1]:5000 or localhost:5000";
    let (name, port) = text.rsplit_once(':').ok_or(wanted)?;
    let port: u16 = port.parse().map_err(|_| wanted)?;
    if name.is_empty() {
        return Err(format!("{wanted}; 0.0.0.0:{port} is every address of this machine"));
    }
    // What ends in a number is an address that is none.
    let number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if number || name.starts_with('[') || host(name).is_err() {
        return Err(wanted.into());
    }
    let unknown = |why: &str| format!("the name {name} has no address: {why}");
    let found = (name, port).to_socket_addrs().map_err(|error| {
        let why = error.to_string();
        unknown(why.strip_prefix("failed to lookup address information: ").unwrap_or(&why))
    })?;
    // The same one whenever it is asked for, in whatever order they come.
    found.min_by_key(|address| (address.is_ipv6(), *address)).ok_or_else(|| unknown("nothing was found"))
}

/// The name of a cluster or a service.
pub(super) fn name(text: &str) -> Result<(), String> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let right = !text.is_empty()
        && text.len() <= 40
        && text.chars().all(|c| letter(c) || c == '-')
        && text.starts_with(letter)
        && text.ends_with(letter);
    if right {
        Ok(())
    } else {
        Err("a name is 1 to 40 of a-z, 0-9 and `-`, and begins and ends with a letter or a digit".into())
    }
}

/// A host without scheme, port or path; comes back in lower case.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if bare.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok()) {
        return Ok(text.to_ascii_lowercase());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a host is a name such as `calc.example.com`, without scheme, port or path".into())
    }
}

/// The name of a model.
pub(super) fn model(text: &str) -> Result<String, String> {
    if (1..=512).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("a model is named by 1 to 512 bytes without control characters".into())
    }
}

/// A path prefix, without the `/` at its end.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
    if !text.starts_with('/') || !text.chars().all(plain) {
        return Err("a path begins with `/` and has no query".into());
    }
    let trimmed = text.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/".into() } else { trimmed.to_owned() })
}

/// A variable that cannot be replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VariableError {
    /// The text as it stands in the file, from its `$`.
    pub(super) place: String,
    pub(super) message: String,
    pub(super) help: String,
}

/// Replaces `${VAR}` and `${VAR:-default}` (also taken when VAR is empty); `$$` is a dollar, any other `$` itself.
pub(super) fn substitute(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, VariableError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let end = after.find('}').ok_or_else(|| malformed(rest))?;
            out.push_str(&variable(&after[..end], &rest[..end + 3], env)?);
            rest = &after[end + 1..];
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands between the braces, replaced.
fn variable(
    inside: &str,
    place: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, VariableError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.is_empty() || !letters || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(malformed(place));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(VariableError {
            place: place.to_owned(),
            message: format!("the environment has no variable `{name}`"),
            help: format!("set it, or write `${{{name}:-default}}`, or `$${{{name}}}` for the text itself"),
        }),
    }
}

fn malformed(place: &str) -> VariableError {
    VariableError {
        place: place.to_owned(),
        message: "a variable is written `${VAR}` or `${VAR:-default}`".into(),
        help: "write `$$` for a dollar".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_and_never_overflow() {
        assert_eq!(bytes("64KiB"), Ok(65_536));
        assert_eq!(bytes("10 MB"), Ok(10_000_000));
        assert_eq!(bytes("1.5GiB"), Ok(1_610_612_736));
        assert_eq!(bytes("512"), Ok(512));
        assert_eq!(bytes("0"), Ok(0));
        for wrong in ["", "KiB", "1.", ".5GB", "-1", "1e9", "12 apples", "1.2.3MB", "64K"] {
            assert!(bytes(wrong).is_err_and(|error| error.starts_with("a size is `64KiB`")), "{wrong}");
        }
        for large in ["99999999TiB", "8388608TiB", "99999999999999999999999", "18446744073709551615TiB"] {
            assert!(bytes(large).is_err_and(|error| error.starts_with("that is too large")), "{large}");
        }
        assert_eq!(bytes("8388607TiB"), Ok(8_388_607 << 40));
    }

    #[test]
    fn an_address_has_a_port_and_may_have_a_name() {
        for (text, address) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:25000", "127.0.0.1:25000"),
            ("LocalHost:1", "127.0.0.1:1"),
        ] {
            assert_eq!(address_of(text).as_deref(), Ok(address), "{text}");
        }
        for (text, said) in [
            ("foo", "an address is IP:PORT or NAME:PORT"),
            ("localhost", "an address is"),
            ("localhost:99999", "an address is"),
            (":25000", "0.0.0.0:25000 is every address"),
            ("1.2.3:5", "an address is"),
            ("[::1:5", "an address is"),
            ("http://localhost:5", "an address is"),
            ("nowhere.invalid:5", "the name nowhere.invalid has no address: "),
        ] {
            assert!(address_of(text).is_err_and(|error| error.contains(said)), "{text}");
        }
    }

    fn address_of(text: &str) -> Result<String, String> {
        address(text).map(|address| address.to_string())
    }

    #[test]
    fn durations_have_units_and_an_end() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "30", "-1s", "5 parsecs", "1000years"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_hosts_and_paths_are_checked() {
        for right in ["a", "a1", "calc-2", "0"] {
            assert!(name(right).is_ok(), "{right}");
        }
        for wrong in ["", "-a", "a-", "A", "a_b", "ä", &"a".repeat(41)] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(host("Calc.Example.com"), Ok("calc.example.com".into()));
        for wrong in ["", "calc:80", "http://calc", "a..b", "calc/x", "*.a"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        assert_eq!(prefix("/a/b//"), Ok("/a/b".into()));
        assert_eq!(prefix("/"), Ok("/".into()));
        for wrong in ["", "a", "/a?b", "/a b"] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        let env = |name: &str| match name {
            "A" => Some("${B}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let replace = |text: &str| substitute(text, &env);
        assert_eq!(replace("x${A}y").as_deref(), Ok("x${B}y"));
        assert_eq!(replace("${NO:-a:-b}${EMPTY:-c}${EMPTY}").as_deref(), Ok("a:-bc"));
        assert_eq!(replace("$$ $$${A} $PORT $").as_deref(), Ok("$ $${B} $PORT $"));
        assert_eq!(replace("a ${NO} b").expect_err("unset").place, "${NO}");
        for wrong in ["${", "${}", "${1A}", "${A B}", "${A-x}"] {
            assert!(replace(wrong).is_err(), "{wrong}");
        }
    }
}
