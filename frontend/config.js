// The page's only settings. All of them are public: the publishable key opens nothing that row level security does not.
export default {
  apiUrl: "https://your-api.execute-api.eu-central-1.amazonaws.com",
  supabaseUrl: "https://your-project.supabase.co",
  supabasePublishableKey: "sb_publishable_...",
  google: false, // show the Google button: switch the provider on in Supabase first
};
