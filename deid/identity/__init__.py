"""Who is who: the crosswalk, and the persons that patient records belong to."""
