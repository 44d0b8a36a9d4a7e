"""Export: a model as files of another engine, which answers without torch, and Models that such files answer for."""
