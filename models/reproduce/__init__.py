"""The paper's tables and figures, row by row, on any data set: `patchplan reproduce TABLE --data D`."""
