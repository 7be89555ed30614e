//! Damages captures on purpose, repeatably: which records survive, in which order and how often. It only permutes,
//! drops and repeats records; it never changes a byte of one.

use super::federation::Random;

/// What is done to a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Nothing.
    None,
    /// So many of a million records were never captured.
    Drop(u32),
    /// So many of a million records come one to three places later.
    Displace(u32),
    /// So many of a million records come twice, the second time one to three places later.
    Duplicate(u32),
}

impl Damage {
    /// The damages that the recovery figures are about.
    pub const MEASURED: [Self; 4] =
        [Self::Drop(1_000), Self::Drop(10_000), Self::Displace(50_000), Self::Duplicate(50_000)];

    /// Its name in reports.
    pub fn name(self) -> String {
        let percent = |n: u32| f64::from(n) / 10_000.0;
        match self {
            Self::None => "none".to_owned(),
            Self::Drop(n) => format!("{} % never captured", percent(n)),
            Self::Displace(n) => format!("{} % displaced by 1 to 3", percent(n)),
            Self::Duplicate(n) => format!("{} % duplicated", percent(n)),
        }
    }
}

/// The damaged capture's records, as numbers of the records of the undamaged one, in order.
pub fn plan(records: u32, damage: Damage, seed: u64) -> Vec<u32> {
    let mut random = Random(seed);
    let mut plan = Vec::with_capacity(records as usize + records as usize / 16);
    // What comes late: (how many records from now, which record).
    let mut late: Vec<(u64, u32)> = Vec::new();
    for record in 0..records {
        match damage {
            Damage::Drop(often) if random.of_a_million(often.into()) => {}
            Damage::Displace(often) if random.of_a_million(often.into()) => {
                late.push((1 + random.below(3), record));
                // It takes no place itself, so it does not count as one that others are late by.
                continue;
            }
            Damage::Duplicate(often) if random.of_a_million(often.into()) => {
                plan.push(record);
                late.push((1 + random.below(3), record));
                continue;
            }
            _ => plan.push(record),
        }
        late.retain_mut(|(places, record)| {
            *places -= 1;
            if *places == 0 {
                plan.push(*record);
            }
            *places > 0
        });
    }
    plan.extend(late.into_iter().map(|(_, record)| record));
    plan
}

#[cfg(test)]
mod tests {
    use super::{Damage, plan};

    #[test]
    fn a_plan_does_what_its_damage_says_and_nothing_else() {
        let n = 100_000;
        let all: Vec<u32> = (0..n).collect();
        let sorted = |mut plan: Vec<u32>| {
            plan.sort_unstable();
            plan
        };
        assert_eq!(plan(n, Damage::None, 1), all);
        let dropped = plan(n, Damage::Drop(10_000), 1);
        assert!(dropped.is_sorted() && (98_800..99_200).contains(&dropped.len()), "{}", dropped.len());
        let displaced = plan(n, Damage::Displace(50_000), 1);
        assert_eq!(sorted(displaced.clone()), all);
        let late = displaced.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!((4_000..6_000).contains(&late), "{late}");
        assert!(displaced.iter().enumerate().all(|(place, r)| (*r as usize).abs_diff(place) <= 6));
        let doubled = plan(n, Damage::Duplicate(50_000), 1);
        assert!((104_500..105_500).contains(&doubled.len()), "{}", doubled.len());
        let mut once = sorted(doubled);
        once.dedup();
        assert_eq!(once, all);
    }

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        assert_eq!(plan(5_000, Damage::Drop(10_000), 7), plan(5_000, Damage::Drop(10_000), 7));
        assert_ne!(plan(5_000, Damage::Drop(10_000), 7), plan(5_000, Damage::Drop(10_000), 8));
    }
}
