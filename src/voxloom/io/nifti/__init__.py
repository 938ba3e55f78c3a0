"""Images as files: headers, streams of volumes, writing."""
