//! Sizes and times as people write them.

/// `500MiB`, `4GiB`, `64kB`, or plain octets.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
        ("", 1),
    ];
    scaled(text, &units, "a size as 500MiB, 4GiB or 1000000")
}

/// `90s`, `30m`, `12h`, `30d`, as nanoseconds. A bare 0 needs no unit.
pub(super) fn nanos(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    const SECOND: u64 = 1_000_000_000;
    let units = [("s", SECOND), ("m", 60 * SECOND), ("h", 3_600 * SECOND), ("d", 86_400 * SECOND)];
    scaled(text, &units, "a time as 90s, 30m, 12h or 30d")
}

fn scaled(text: &str, units: &[(&str, u64)], wanted: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor =
        units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())).map(|(_, factor)| *factor);
    number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| format!("not {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_with_their_units_and_refused_without_sense() {
        assert_eq!(size("4GiB"), Ok(4 << 30));
        assert_eq!(size("64kb"), Ok(64_000));
        assert_eq!(size("0"), Ok(0));
        assert_eq!(nanos("2m"), Ok(120_000_000_000));
        assert_eq!(nanos("0"), Ok(0));
        for bad in ["", "GiB", "1.5GiB", "4 parsecs", "-1", "99999999999999999999", "99999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["", "5", "m", "1y"] {
            assert!(nanos(bad).is_err(), "{bad}");
        }
    }
}
