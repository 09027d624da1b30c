//! A curve of characters: dots of braille where a terminal shows them, stars elsewhere. Pure.

/// What a curve is drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Canvas {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
    pub(crate) ink: Ink,
}

/// What it is drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Two by four dots in each character.
    Braille,
    /// One star in each.
    Plain,
}

impl Ink {
    const fn dots(self) -> Dots {
        match self {
            Self::Braille => Dots { across: 2, down: 4 },
            Self::Plain => Dots { across: 1, down: 1 },
        }
    }
}

/// Dots of a character.
struct Dots {
    across: usize,
    down: usize,
}

/// Columns beside the curve: the greatest label and the axis.
const LABEL_COLUMNS: usize = 10;

impl Canvas {
    /// How many values have a place of their own.
    pub(crate) const fn places(self) -> usize {
        self.columns.saturating_sub(LABEL_COLUMNS) * self.ink.dots().across
    }

    /// The lines of a curve through these values, evenly spaced, and the axis below it; nothing where a value is missing.
    pub(crate) fn draw(self, values: &[Option<f64>]) -> Vec<String> {
        let Some(range) = Range::of(values) else { return Vec::new() };
        let Dots { across, down } = self.ink.dots();
        let (width, height) = (self.places(), self.rows * down);
        let mut grid = Grid { cells: vec![0; (width / across) * self.rows], width, across, down };
        let mut before = None;
        for (k, value) in values.iter().enumerate() {
            let x = if values.len() > 1 { k * width.saturating_sub(1) / (values.len() - 1) } else { width / 2 };
            let y = value.map(|value| range.row(value, height));
            if let Some(y) = y {
                grid.stroke(before, Dot { x, y });
            }
            before = y.map(|y| Dot { x, y });
        }
        let mut lines: Vec<String> = (0..self.rows)
            .map(|row| {
                let label = match row {
                    0 => range.label(range.max),
                    row if row + 1 == self.rows => range.label(range.min),
                    row if row == self.rows / 2 => {
                        range.label(range.max - (range.max - range.min) * row as f64 / (self.rows - 1) as f64)
                    }
                    _ => String::new(),
                };
                let axis = if self.ink == Ink::Braille { '┤' } else { '|' };
                let cells: String = grid.row(row).map(|cell| self.ink.character(cell)).collect();
                format!("{label:>8} {axis}{cells}").trim_end().to_owned()
            })
            .collect();
        let floor = if self.ink == Ink::Braille { ('└', '─') } else { ('+', '-') };
        lines.push(format!("{:>9}{}{}", "", floor.0, floor.1.to_string().repeat(width / across)));
        lines
    }
}

impl Ink {
    fn character(self, dots: u8) -> char {
        match self {
            _ if dots == 0 => ' ',
            Self::Braille => char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' '),
            Self::Plain => '*',
        }
    }
}

/// A dot, from the left and from the top.
#[derive(Clone, Copy)]
struct Dot {
    x: usize,
    y: usize,
}

/// Dots that are set, a byte for each character as braille counts them.
struct Grid {
    cells: Vec<u8>,
    width: usize,
    across: usize,
    down: usize,
}

impl Grid {
    /// A line from the dot before, if there is one next to it.
    fn stroke(&mut self, before: Option<Dot>, to: Dot) {
        let from = before.unwrap_or(to);
        let steps = to.x.abs_diff(from.x).max(to.y.abs_diff(from.y)).max(1);
        for step in 0..=steps {
            let between = |from: usize, to: usize| {
                let moved = to.abs_diff(from) * step / steps;
                if to >= from { from + moved } else { from - moved }
            };
            self.set(between(from.x, to.x), between(from.y, to.y));
        }
    }

    fn set(&mut self, x: usize, y: usize) {
        // Bits of braille, row by row.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let at = (y / self.down) * (self.width / self.across) + x / self.across;
        let bit = BITS.get(y % self.down).and_then(|bits| bits.get(x % self.across));
        if let Some((cell, bit)) = self.cells.get_mut(at).zip(bit) {
            *cell |= bit;
        }
    }

    fn row(&self, row: usize) -> impl Iterator<Item = u8> {
        let columns = self.width / self.across;
        self.cells.iter().skip(row * columns).take(columns).copied()
    }
}

/// The least and the greatest value.
struct Range {
    min: f64,
    max: f64,
}

impl Range {
    fn of(values: &[Option<f64>]) -> Option<Self> {
        let mut there = values.iter().flatten().copied();
        let first = there.next()?;
        let (min, max) = there.fold((first, first), |(min, max), value| (min.min(value), max.max(value)));
        // A straight line is drawn in the middle.
        let pad = if max > min { 0.0 } else { (max.abs() * 0.01).max(0.5) };
        Some(Self { min: min - pad, max: max + pad })
    }

    /// How far from the top a value is, of so many dots. By halves: the difference of two values may be infinite.
    fn row(&self, value: f64, height: usize) -> usize {
        let part = (self.max / 2.0 - value / 2.0) / (self.max / 2.0 - self.min / 2.0);
        let last = height.saturating_sub(1);
        ((part * last as f64).round().max(0.0) as usize).min(last)
    }

    /// A number with as many digits as tell rows apart, in eight characters.
    fn label(&self, value: f64) -> String {
        let digits = (1.0 - (self.max / 2.0 - self.min / 2.0).log10().floor()).clamp(0.0, 4.0) as usize;
        let plain = format!("{value:.digits$}");
        if plain.len() <= 8 { plain } else { format!("{value:.1e}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Canvas = Canvas { columns: 20, rows: 4, ink: Ink::Plain };

    #[test]
    fn a_curve_goes_through_its_values_and_stops_where_there_are_none() {
        let values: Vec<Option<f64>> = [1, 2, 3, 4, 4, 0, 0, 2, 1, 1].map(|n| (n > 0).then_some(f64::from(n))).to_vec();
        assert_eq!(
            SMALL.draw(&values),
            ["     4.0 |   **", "         |  *", "     2.0 | *     *", "     1.0 |*       **", "         +----------"]
        );
        let braille = Canvas { ink: Ink::Braille, ..SMALL };
        let steps: Vec<Option<f64>> = (0..braille.places()).map(|n| Some(n as f64)).collect();
        let drawn = braille.draw(&steps);
        assert_eq!((braille.places(), drawn.len()), (20, 5));
        let is_dotted = |c: Option<char>| c.is_some_and(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
        assert!(is_dotted(drawn[0].chars().last()) && is_dotted(drawn[3].chars().nth(10)), "{drawn:?}");
        assert!(drawn[4].starts_with("         └──"), "{drawn:?}");
    }

    #[test]
    fn one_value_and_none_do_as_well() {
        assert_eq!(SMALL.draw(&[None, None]), Vec::<String>::new());
        let drawn = SMALL.draw(&[Some(5.0)]);
        assert_eq!(drawn.iter().filter(|line| line.contains('*')).count(), 1, "{drawn:?}");
        assert_eq!(Canvas { columns: 3, rows: 0, ink: Ink::Plain }.draw(&[Some(5.0)]).len(), 1);
    }

    proptest! {
        #[test]
        fn no_values_make_it_panic_or_too_wide(
            values in prop::collection::vec(prop::option::of(prop::num::f64::NORMAL | prop::num::f64::ZERO), 0..60),
            columns in 0..40_usize,
            rows in 0..10_usize,
            plain: bool,
        ) {
            let ink = if plain { Ink::Plain } else { Ink::Braille };
            for line in (Canvas { columns, rows, ink }).draw(&values) {
                prop_assert!(line.chars().count() <= columns.max(LABEL_COLUMNS) , "{line}");
            }
        }
    }
}
