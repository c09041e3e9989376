//! How sure a share of right answers is.
//!
//! Owns Wilson's score interval for a binomial proportion.
//! Source: E. B. Wilson, JASA 22 (1927) 209; recommended by Brown, Cai and
//! DasGupta, Statistical Science 16 (2001) 101.

/// Two-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A share with its interval of 95 %, all in percent.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Share {
    /// Right answers by answers.
    pub percent: f64,
    /// Lower end.
    pub low_percent: f64,
    /// Upper end.
    pub high_percent: f64,
}

impl Share {
    /// `right` of `all`; none where nothing was answered.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of images")]
    pub fn of(right: u64, all: u64) -> Option<Share> {
        if all == 0 {
            return None;
        }
        let (n, p) = (all as f64, right as f64 / all as f64);
        let denominator = 1.0 + Z * Z / n;
        let middle = (p + Z * Z / (2.0 * n)) / denominator;
        let half = Z / denominator * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let percent = |share: f64| (share * 100.0).clamp(0.0, 100.0);
        Some(Share {
            percent: percent(p),
            low_percent: percent(middle - half),
            high_percent: percent(middle + half),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_published_example() {
        // R: binom.confint(81, 263, methods = "wilson") → 0.2553, 0.3662 (Newcombe 1998, row 1).
        let share = Share::of(81, 263).unwrap();
        assert!(
            (share.low_percent - 25.53).abs() < 5e-3 && (share.high_percent - 36.62).abs() < 5e-3
        );
        assert_eq!(Share::of(0, 5).unwrap().low_percent, 0.0);
        assert_eq!(Share::of(5, 5).unwrap().high_percent, 100.0);
        assert_eq!(Share::of(0, 0), None);
    }
}
