//! How long a slot waits before it starts again: exponential, capped, with seeded jitter.

use std::time::Duration;

/// The delay after so many failures in a row (1 is the first): `min(max, initial * 2^(failures - 1))`, of which one
/// half is kept and one half is chance ("equal jitter": AWS Architecture Blog, "Exponential Backoff And Jitter"), so
/// that instances that died together do not start together.
pub(crate) fn delay(initial: Duration, max: Duration, failures: u32, rng: &mut fastrand::Rng) -> Duration {
    nominal(initial, max, failures).mul_f64(0.5 + rng.f64() / 2.0)
}

/// The delay without jitter.
pub(crate) fn nominal(initial: Duration, max: Duration, failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    initial.saturating_mul(factor).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_cap_and_jitter_takes_at_most_half() {
        let (initial, max) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut rng = fastrand::Rng::with_seed(1);
        for (failures, seconds) in [(1, 0.5), (2, 1.0), (4, 4.0), (7, 30.0), (40, 30.0), (u32::MAX, 30.0)] {
            assert_eq!(nominal(initial, max, failures).as_secs_f64(), seconds);
            for _ in 0..100 {
                let delay = delay(initial, max, failures, &mut rng).as_secs_f64();
                assert!(seconds / 2.0 <= delay && delay <= seconds, "{delay} of {seconds}");
            }
        }
    }
}
