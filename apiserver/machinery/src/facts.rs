//! The table of schema facts.
