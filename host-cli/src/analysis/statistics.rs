//! Means, scatter and Student's t: what a handful of repeats allows to say.
//!
//! Owns the formulas and their sources. Knows neither power nor windows.
//! Source: JCGM 100:2008 §4.2 and table G.2 (Student's t).

/// Two-sided 95 % quantiles of Student's t for 1 to 10 degrees of freedom
/// (t₀.₉₇₅; JCGM 100:2008, table G.2).
const T_975: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
/// The same quantile of the normal law.
const Z_975: f64 = 1.959_964;

/// A count as a number for division; exact below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "no count of ours reaches 2^53")]
#[must_use]
pub fn count(items: usize) -> f64 {
    items as f64
}

/// Arithmetic mean; `None` of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / count(values.len()))
}

/// Sample standard deviation (n − 1); `None` below two values.
#[must_use]
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (count(values.len()) - 1.0)).sqrt())
}

/// t₀.₉₇₅ for `freedom` degrees of freedom; above 10 by the Cornish–Fisher
/// expansion (Abramowitz and Stegun 26.7.5), to 2·10⁻⁴. Infinite for none.
#[must_use]
pub fn t_975(freedom: usize) -> f64 {
    let Some(below) = freedom.checked_sub(1) else { return f64::INFINITY };
    T_975.get(below).copied().unwrap_or_else(|| {
        let (z, n) = (Z_975, count(freedom));
        let first = (z.powi(3) + z) / (4.0 * n);
        let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n);
        let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z)
            / (384.0 * n.powi(3));
        z + first + second + third
    })
}

/// Standard uncertainty of a mean over repeats, widened so that twice it
/// covers 95 % whatever their number: s/√n · t₀.₉₇₅(n−1)/2. `None` below two.
#[must_use]
pub fn repeat_uncertainty(values: &[f64]) -> Option<f64> {
    let deviation = deviation(values)?;
    let n = values.len();
    Some(deviation / count(n).sqrt() * t_975(n - 1) / 2.0)
}

/// Standard uncertainty of the mean of a series whose neighbours are alike:
/// s·√((1+ρ)/(N(1−ρ))), ρ the lag-1 correlation. 0 below three values.
/// Source: Zięba, Metrol. Meas. Syst. 17 (2010), effective number of
/// observations for a first-order process.
#[must_use]
pub fn series_uncertainty(values: &[f64]) -> f64 {
    let (Some(mean), Some(deviation)) = (mean(values), deviation(values)) else { return 0.0 };
    if values.len() < 3 || deviation <= 0.0 {
        return 0.0;
    }
    let n = count(values.len());
    let products: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    // Beyond 1 − 2/N the series is one slow move: two values' worth of it.
    let correlation = (products / ((n - 1.0) * deviation.powi(2))).clamp(0.0, 1.0 - 2.0 / n);
    deviation * ((1.0 + correlation) / (n * (1.0 - correlation))).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_quantiles_join_the_table_and_tend_to_the_normal_law() {
        assert!((t_975(4) - 2.776).abs() < 1e-9);
        assert!((t_975(11) - 2.201).abs() < 5e-4);
        assert!((t_975(30) - 2.042).abs() < 5e-4);
        assert!((t_975(100_000) - 1.96).abs() < 1e-4);
    }

    #[test]
    fn three_repeats_are_widened_by_students_factor() {
        let u = repeat_uncertainty(&[9.0, 10.0, 11.0]).unwrap();
        assert!((2.0 * u - 4.303 / 3.0_f64.sqrt()).abs() < 1e-9);
        assert_eq!(repeat_uncertainty(&[9.0]), None);
    }

    #[test]
    fn a_series_without_memory_has_the_uncertainty_of_independent_values() {
        let values: Vec<f64> = (0..4000).map(|i| f64::from((i * 7919) % 101)).collect();
        let plain = deviation(&values).unwrap() / 4000.0_f64.sqrt();
        assert!((series_uncertainty(&values) / plain - 1.0).abs() < 0.1);
        assert!(series_uncertainty(&[1.0, 1.0, 1.0]).abs() < 1e-12);
    }
}
