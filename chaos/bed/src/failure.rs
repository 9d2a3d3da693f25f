/// Why a run ended early.
#[derive(Debug)]
pub enum Failure {
    /// What was promised did not hold: exit code 1.
    Broken(String),
    /// It could not be tried: exit code 2.
    Impossible(String),
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn broken(text: impl Into<String>) -> Self {
        Self::Broken(text.into())
    }

    pub fn impossible(text: impl Into<String>) -> Self {
        Self::Impossible(text.into())
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Broken(_) => 1,
            Self::Impossible(_) => 2,
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Self::Broken(text) | Self::Impossible(text) => text,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Impossible(error.to_string())
    }
}
