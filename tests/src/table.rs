//! A CSV file of `export` or of a figure.
//!
//! Owns the splitting into named columns. No field of ours holds a comma.

use std::path::Path;

/// Rows with named columns.
#[derive(Debug, Clone)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads a file.
    ///
    /// # Panics
    /// Where it cannot be read, or a row has another number of fields.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let fields = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut lines = text.lines();
        let header = fields(lines.next().unwrap_or_default());
        let rows: Vec<_> = lines.map(fields).collect();
        for row in &rows {
            assert_eq!(row.len(), header.len(), "{}: {row:?}", path.display());
        }
        Self { header, rows }
    }

    /// The header as a line.
    #[must_use]
    pub fn header(&self) -> String {
        self.header.join(",")
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True where there is a header alone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A column as text.
    ///
    /// # Panics
    /// Where there is none of that name.
    #[must_use]
    pub fn texts(&self, column: &str) -> Vec<&str> {
        let place = self.header.iter().position(|name| name == column);
        let place = place.unwrap_or_else(|| panic!("no column {column}"));
        self.rows.iter().map(|row| row[place].as_str()).collect()
    }

    /// A column as numbers.
    ///
    /// # Panics
    /// Where a field is none.
    #[must_use]
    pub fn numbers(&self, column: &str) -> Vec<f64> {
        let number = |text: &str| {
            text.parse().unwrap_or_else(|_| panic!("{column}: `{text}` is not a number"))
        };
        self.texts(column).into_iter().map(number).collect()
    }
}
