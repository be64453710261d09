//! Lines with their file ranges on the way into one request.
