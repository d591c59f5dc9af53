"""The frozen backbone's store: each image and view passes the network once, for all trials."""
