"""Calibration: the efficiency numbers of specs from measurements, with residuals and the range of validity."""
