//! The numbers of a figure as a table of comma-separated values.
//!
//! Owns quoting and the form of numbers (RFC 4180, a point as decimal mark,
//! shortest form that reads back to the same value).

/// A table that grows row by row.
#[derive(Debug)]
pub(super) struct Csv(String);

impl Csv {
    /// A table with these column names; units stand in the names.
    pub(super) fn new(columns: &str) -> Self {
        Self(format!("{columns}\n"))
    }

    /// Adds a row.
    pub(super) fn row(&mut self, fields: &[String]) {
        let quoted: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
        self.0.push_str(&quoted.join(","));
        self.0.push('\n');
    }

    /// The table as text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A number; empty where there is none.
pub(super) fn number(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or_else(String::new, |value| value.to_string())
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_name_stays_one_field() {
        let mut csv = Csv::new("rail,power_w");
        csv.row(&["a,\"b\"".into(), number(Some(0.5))]);
        csv.row(&["c".into(), number(Some(f64::NAN))]);
        assert_eq!(csv.finish(), "rail,power_w\n\"a,\"\"b\"\"\",0.5\nc,\n");
    }
}
