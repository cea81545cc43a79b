"""The network room: the only place that imports pynetdicom. Associations in and out, and what their answers mean."""
