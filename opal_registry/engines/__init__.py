"""From settings to engines: the URL, what each database needs to be safe, and its errors in plain words."""
