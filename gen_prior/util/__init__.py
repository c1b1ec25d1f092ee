"""Helpers that know no network: devices, random streams, files, images, progress; imports nothing but `errors`."""
