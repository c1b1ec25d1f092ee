"""The embedded prior: decoder, flow over codes, fine code and texture."""
