//! One port, all doors.
